# Each set of kernels is compiled for the processors that it is for; products/cpu.h chooses one at run time.
set(KERNEL_SETS set_plain.cpp)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
  set(AVX2 -mavx2 -mfma -mf16c)
  set(AVX512 ${AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -mavx512vnni)
  set(FLAGS_set_avx2.cpp ${AVX2})
  set(FLAGS_set_avx_vnni.cpp ${AVX2} -mavxvnni)
  set(FLAGS_set_avx512_vnni.cpp ${AVX512})
  set(FLAGS_set_amx.cpp ${AVX512} -mamx-tile -mamx-int8)
  list(APPEND KERNEL_SETS set_avx2.cpp set_avx_vnni.cpp set_avx512_vnni.cpp set_amx.cpp)
  target_compile_definitions(_native PRIVATE PYTRIMODE_X86_SETS)
endif()

# A product of two floats that is added to a third rounds where the source says so: all sets give the same bits.
# GCC's own intrinsics make it warn of values that are never read.
foreach(source ${KERNEL_SETS})
  set_source_files_properties(products/${source} PROPERTIES COMPILE_OPTIONS
    "${FLAGS_${source}};-O3;-ffp-contract=off;-Wno-uninitialized;-Wno-maybe-uninitialized")
endforeach()

# The folder's other sets are for other processors.
file(GLOB ALL_SETS RELATIVE "${CMAKE_CURRENT_SOURCE_DIR}" "products/set_*.cpp")
get_target_property(TARGET_SOURCES _native SOURCES)
foreach(source ${ALL_SETS})
  get_filename_component(name ${source} NAME)
  if(NOT name IN_LIST KERNEL_SETS)
    list(REMOVE_ITEM TARGET_SOURCES ${source})
  endif()
endforeach()
set_target_properties(_native PROPERTIES SOURCES "${TARGET_SOURCES}")
