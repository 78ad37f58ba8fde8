# How everything is compiled.
option(KSA_NATIVE "Compile for the instruction set of this machine" ON)
option(KSA_SANITIZE "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
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
target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra -Wshadow -Wnon-virtual-dtor -Wold-style-cast>)
if(KSA_NATIVE)
  target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
endif()
if(KSA_SANITIZE)
  target_compile_options(ksa_options INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer>)
  target_link_options(ksa_options INTERFACE -fsanitize=address,undefined)
endif()
