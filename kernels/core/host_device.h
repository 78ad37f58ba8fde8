// Marks functions that both the host and the device compile.
#pragma once

#ifdef __CUDACC__
#define KSA_HOST_DEVICE __host__ __device__
#else
#define KSA_HOST_DEVICE
#endif
