# Everything comes from the system's packages (launch/bootstrap.sh installs them); nothing is downloaded.
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(fmt REQUIRED)
find_package(CLI11 REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(GTest REQUIRED)
find_package(MPI REQUIRED COMPONENTS C)
set(HDF5_NO_FIND_PACKAGE_CONFIG_FILE ON)
find_package(HDF5 REQUIRED COMPONENTS C)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(SENTENCEPIECE REQUIRED IMPORTED_TARGET sentencepiece)
find_package(ZLIB REQUIRED)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(PCRE2 REQUIRED IMPORTED_TARGET libpcre2-8)
pkg_check_modules(UTF8PROC REQUIRED IMPORTED_TARGET libutf8proc)
find_path(RANDOM123_INCLUDE_DIR Random123/philox.h REQUIRED)

# OpenBLAS in its OpenMP build: inside a parallel region the pthread build is several times slower on small calls.
find_library(OPENBLAS_LIBRARY NAMES openblas PATH_SUFFIXES openblas-openmp NO_DEFAULT_PATH
             PATHS /usr/lib/${CMAKE_CXX_LIBRARY_ARCHITECTURE} /usr/lib /usr/local/lib)
find_path(OPENBLAS_INCLUDE_DIR cblas.h PATH_SUFFIXES openblas-openmp openblas
          HINTS /usr/include/${CMAKE_CXX_LIBRARY_ARCHITECTURE} REQUIRED)
if(NOT OPENBLAS_LIBRARY)
  find_library(OPENBLAS_LIBRARY NAMES openblas REQUIRED)
endif()
# The program opens it when it makes its first product (kernels/gemm/blas.cc) and is not linked with it: before main, in
# little address space, the library waits for ever for its buffers. It is looked for by its soname, here first.
execute_process(COMMAND ${CMAKE_OBJDUMP} -p ${OPENBLAS_LIBRARY} OUTPUT_VARIABLE openblas_header)
if(NOT openblas_header MATCHES "SONAME +([^ \n]+)")
  message(FATAL_ERROR "${OPENBLAS_LIBRARY} is not a shared library; install libopenblas-openmp-dev")
endif()
set(openblas_soname ${CMAKE_MATCH_1})
get_filename_component(openblas_folder ${OPENBLAS_LIBRARY} DIRECTORY)
add_library(ksa_openblas INTERFACE)
target_include_directories(ksa_openblas SYSTEM INTERFACE ${OPENBLAS_INCLUDE_DIR})
target_compile_definitions(ksa_openblas INTERFACE KSA_OPENBLAS="${openblas_soname}")
target_link_libraries(ksa_openblas INTERFACE ${CMAKE_DL_LIBS})
target_link_options(ksa_openblas INTERFACE LINKER:-rpath,${openblas_folder})

add_library(ksa_hdf5 INTERFACE)
target_include_directories(ksa_hdf5 SYSTEM INTERFACE ${HDF5_INCLUDE_DIRS})
target_link_libraries(ksa_hdf5 INTERFACE ${HDF5_C_LIBRARIES})

# yaml-cpp's target has a namespace from version 0.8 on.
add_library(ksa_yaml INTERFACE)
if(TARGET yaml-cpp::yaml-cpp)
  target_link_libraries(ksa_yaml INTERFACE yaml-cpp::yaml-cpp)
else()
  target_link_libraries(ksa_yaml INTERFACE yaml-cpp)
endif()

# Chart.js (MIT), which draws the pages of `ksa report`: its file becomes a part of the program. Without it everything
# else is built, and the command says what is missing.
find_file(KSA_CHART_JS NAMES chart.min.js Chart.min.js NO_DEFAULT_PATH
          PATHS /usr/share/javascript/chart.js /usr/local/share/javascript/chart.js)
if(NOT KSA_CHART_JS)
  message(STATUS "Chart.js was not found (package libjs-chart.js): ksa report will write CSV alone")
endif()
