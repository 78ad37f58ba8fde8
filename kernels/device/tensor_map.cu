#include "kernels/core/cuda.h"
#include "kernels/device/tensor_map.cuh"

namespace ksa::cuda {
namespace {

constexpr uint32_t kBoxColumns = 64;  // 128 bytes: what the swizzle allows

// By the runtime, so that the program needs no driver library to link or to start without a GPU.
decltype(&cuTensorMapEncodeTiled) EncodeFunction() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found{};
  KSA_CUDA_CHECK(
      cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
  KSA_CHECK(found == cudaDriverEntryPointSuccess,
            "the CUDA driver has no cuTensorMapEncodeTiled; it must be 12.0 or newer");
  return reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(function);
}

}  // namespace

CUtensorMap MakeTensorMap(const TensorView& tensor, int box_rows) {
  static const auto encode = EncodeFunction();
  const auto rows = static_cast<cuuint64_t>(tensor.shape[0]);
  const auto heads = static_cast<cuuint64_t>(tensor.shape[1]);
  const auto e = static_cast<cuuint64_t>(tensor.shape[2]);
  const cuuint64_t sizes[3] = {e, heads, rows};
  const cuuint64_t strides[2] = {e * sizeof(BFloat16), heads * e * sizeof(BFloat16)};
  const cuuint32_t box[3] = {kBoxColumns, 1, static_cast<cuuint32_t>(box_rows)};
  const cuuint32_t steps[3] = {1, 1, 1};
  CUtensorMap map{};
  const CUresult result = encode(&map,
                                 CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
                                 3,
                                 tensor.data,
                                 sizes,
                                 strides,
                                 box,
                                 steps,
                                 CU_TENSOR_MAP_INTERLEAVE_NONE,
                                 CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                                 CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    FailCuda(cudaErrorInvalidValue, "cuTensorMapEncodeTiled", __FILE__, __LINE__);
  }
  return map;
}

}  // namespace ksa::cuda
