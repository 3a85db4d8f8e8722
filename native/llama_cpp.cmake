# llama.cpp for the target: `link_llama_cpp(target)` links libllama and ggml, gives their headers and where they will lie.
#
# Two ways. An installation from source takes the libraries of the installed llama-cpp-python, which it depends on. A
# wheel must not compile anything at its user's and has its own: with PYTRIMODE_LLAMA_CPP_SOURCE=DIR, the folder
# vendor/llama.cpp of the same llama-cpp-python's source distribution, they are built here and installed into
# pytrimode/lib, the CPU's kernels once for each generation of processors (tools/wheel/).
set(PYTRIMODE_LLAMA_CPP_SOURCE "" CACHE PATH "llama.cpp's source tree: build it and bring its libraries along")

if(APPLE)
  set(ORIGIN "@loader_path")
else()
  set(ORIGIN "$ORIGIN")
endif()

function(link_llama_cpp target)
  if(PYTRIMODE_LLAMA_CPP_SOURCE)
    link_own_llama_cpp(${target})
  else()
    link_installed_llama_cpp(${target})
  endif()
  if(NOT APPLE)
    target_link_options(${target} PRIVATE -Wl,--disable-new-dtags)
  endif()
endfunction()

# Those of llama-cpp-python. Two copies of them are installed (lib/ and llama_cpp/lib/): the one that Python loads.
function(link_installed_llama_cpp target)
  # Located without importing it: an import would load the libraries.
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.util as u, pathlib, importlib.metadata as m; p = pathlib.Path(u.find_spec('llama_cpp').origin).parent; print(p.as_posix(), m.version('llama-cpp-python'), sep=';', end='')"
    OUTPUT_VARIABLE found COMMAND_ERROR_IS_FATAL ANY)
  list(GET found 0 directory)
  list(GET found 1 version)
  message(STATUS "llama-cpp-python ${version} in ${directory}")
  target_include_directories(${target} PRIVATE "${directory}/../include")
  target_compile_definitions(${target} PRIVATE PYTRIMODE_LLAMA_CPP_PYTHON_VERSION="${version}")
  foreach(library llama ggml ggml-base)
    find_library(LIB_${library} ${library} PATHS "${directory}/lib" NO_DEFAULT_PATH REQUIRED)
    target_link_libraries(${target} PRIVATE "${LIB_${library}}")
  endforeach()
  set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "${ORIGIN}/../llama_cpp/lib")
endfunction()

# Our own build, beside which the module lies in pytrimode/.
function(link_own_llama_cpp target)
  add_own_llama_cpp()
  target_link_libraries(${target} PRIVATE llama ggml ggml-base)
  target_compile_definitions(${target} PRIVATE PYTRIMODE_LLAMA_CPP_PYTHON_VERSION="${LLAMA_CPP_PYTHON_VERSION}"
                                               PYTRIMODE_OWN_LLAMA_CPP)
  set_target_properties(${target} PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "${ORIGIN}/lib")
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    # The CPU's kernels bring OpenMP along when the first model is loaded. It reads how to wait from the environment when
    # it is loaded, which pytrimode sets while it imports this module (pytrimode/threads.py): load it here.
    target_link_libraries(${target} PRIVATE -Wl,--no-as-needed gomp -Wl,--as-needed)
  endif()
  install(TARGETS llama ggml ggml-base LIBRARY DESTINATION pytrimode/lib)
  install(DIRECTORY "${CMAKE_BINARY_DIR}/bin/" DESTINATION pytrimode/lib FILES_MATCHING PATTERN "libggml-*")
  install(FILES "${PYTRIMODE_LLAMA_CPP_SOURCE}/LICENSE" DESTINATION pytrimode/lib RENAME LICENSE.llama.cpp)
endfunction()

# The targets llama, ggml and ggml-base, and a library for each backend in bin/ of the build. Libraries have names of
# their own, so that llama-cpp-python may be loaded in the same process, and no versions in them: wheels know no links.
function(add_own_llama_cpp)
  file(READ "${PYTRIMODE_LLAMA_CPP_SOURCE}/../../llama_cpp/__init__.py" init)
  string(REGEX MATCH "__version__ = \"([^\"]+)\"" _ "${init}")
  if(NOT CMAKE_MATCH_1)
    message(FATAL_ERROR "${PYTRIMODE_LLAMA_CPP_SOURCE} is not vendor/llama.cpp of a source tree of llama-cpp-python")
  endif()
  set(LLAMA_CPP_PYTHON_VERSION "${CMAKE_MATCH_1}" PARENT_SCOPE)
  message(STATUS "llama.cpp of llama-cpp-python ${CMAKE_MATCH_1}, own build")
  set(BUILD_SHARED_LIBS ON)
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  set(CMAKE_INSTALL_RPATH "${ORIGIN}")
  set(GGML_NATIVE OFF CACHE BOOL "" FORCE)
  set(GGML_RPC ON CACHE BOOL "" FORCE)  # for --rpc; small, and asleep without it
  if(NOT APPLE)
    set(CMAKE_SHARED_LINKER_FLAGS "${CMAKE_SHARED_LINKER_FLAGS} -Wl,-s")
    set(CMAKE_MODULE_LINKER_FLAGS "${CMAKE_MODULE_LINKER_FLAGS} -Wl,-s")
    set(GGML_BACKEND_DL ON CACHE BOOL "" FORCE)
    set(GGML_CPU_ALL_VARIANTS ON CACHE BOOL "" FORCE)
  endif()
  add_subdirectory("${PYTRIMODE_LLAMA_CPP_SOURCE}" llama.cpp EXCLUDE_FROM_ALL)
  foreach(library llama ggml ggml-base)
    set_target_properties(${library} PROPERTIES OUTPUT_NAME pytrimode-${library})
    set_property(TARGET ${library} PROPERTY VERSION)
    set_property(TARGET ${library} PROPERTY SOVERSION)
  endforeach()
endfunction()
