# How everything is compiled.
option(KSA_NATIVE "Compile for the instruction set of this machine" ON)
option(KSA_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(KSA_WERROR "Warnings are errors (CI and launch/test.sh --werror)" OFF)
set(KSA_CUDA AUTO CACHE STRING "CUDA kernels: ON, OFF, or AUTO (ON where a CUDA compiler is found)")
set_property(CACHE KSA_CUDA PROPERTY STRINGS ON OFF AUTO)
set(KSA_CUDNN AUTO CACHE STRING "Full causal attention by cuDNN: ON, OFF, or AUTO (ON where it is found)")
set_property(CACHE KSA_CUDNN PROPERTY STRINGS ON OFF AUTO)
set(KSA_NCCL AUTO CACHE STRING "Several GPUs by NCCL: ON, OFF, or AUTO (ON where it is found)")
set_property(CACHE KSA_NCCL PROPERTY STRINGS ON OFF AUTO)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_COMPILE_WARNING_AS_ERROR ${KSA_WERROR})
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()

find_program(KSA_CCACHE ccache)
if(KSA_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${KSA_CCACHE})
  set(CMAKE_CUDA_COMPILER_LAUNCHER ${KSA_CCACHE})
endif()

# Release keeps -O3 without -ffast-math: the order of additions is part of the contract (exact resume).
set(CMAKE_CXX_FLAGS_RELEASE "-O3")
add_library(ksa_options INTERFACE)
target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast -Wno-missing-field-initializers>)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 14)
  # False alarms of these versions once everything is inlined: string concatenation, and fmt's parser.
  target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict -Wno-stringop-overflow>)
endif()
if(KSA_WERROR)  # alarms that are too often false, on std::variant and std::string, to stop a build
  target_compile_options(ksa_options INTERFACE
                         $<$<COMPILE_LANGUAGE:CXX>:-Wno-error=maybe-uninitialized -Wno-error=array-bounds>)
endif()
if(KSA_NATIVE)
  target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
if(KSA_SANITIZE)
  target_compile_options(ksa_options INTERFACE
                         $<$<COMPILE_LANGUAGE:CXX>:-Og -g1 -fsanitize=address,undefined -fno-sanitize-recover=all
                                                   -fno-omit-frame-pointer -Wno-maybe-uninitialized -Wno-array-bounds>)
  target_link_options(ksa_options INTERFACE -fsanitize=address,undefined)
endif()
