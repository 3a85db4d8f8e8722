# The kernels of attention, one file per instruction set, chosen when they run (attention/kernel.cpp). No contraction: a
# product and a sum become one operation only where the source says so, or the sets would differ in bits.
function(add_attention_kernels target)
  set(optimize -O3)
  if(PYTRIMODE_SANITIZE)
    set(optimize -O1)
  endif()
  file(GLOB kernels CONFIGURE_DEPENDS "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernel_*.cpp")
  target_sources(${target} PRIVATE ${kernels})
  set_source_files_properties(${kernels} PROPERTIES COMPILE_OPTIONS "${optimize};-ffp-contract=off")
  if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64|amd64")
    set(AVX2 -mavx2 -mfma -mf16c)
    set_property(SOURCE "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernel_avx2.cpp" APPEND PROPERTY COMPILE_OPTIONS ${AVX2})
    # GCC takes the undefined operand of its own intrinsics for a mistake.
    set_property(SOURCE "${CMAKE_CURRENT_FUNCTION_LIST_DIR}/kernel_avx512.cpp" APPEND PROPERTY COMPILE_OPTIONS
                 ${AVX2} -mavx512f -mavx512bw -mavx512dq -mavx512vl -Wno-uninitialized -Wno-maybe-uninitialized)
  endif()
endfunction()
