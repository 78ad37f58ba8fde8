#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <type_traits>

#include <cublasLt.h>

#include "kernels/core/cuda.h"
#include "kernels/core/gpu.h"
#include "kernels/core/lru_cache.h"
#include "kernels/core/stream_resources.h"
#include "kernels/gemm/gemm_backends.h"

namespace ksa::cuda {
namespace {

void Check(cublasStatus_t status, const char* what, int line) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    const ExitCode code = status == CUBLAS_STATUS_ALLOC_FAILED ? ExitCode::kOutOfMemory : ExitCode::kInternal;
    throw DeviceError(
        code, fmt::format("cuBLASLt: {} from {} at {}:{}", cublasLtGetStatusString(status), what, __FILE__, line));
  }
}

#define KSA_CUBLAS_CHECK(call) Check((call), #call, __LINE__)

struct Destroy {
  void operator()(cublasLtHandle_t x) const { (void)cublasLtDestroy(x); }

  void operator()(cublasLtMatmulDesc_t x) const { (void)cublasLtMatmulDescDestroy(x); }

  void operator()(cublasLtMatrixLayout_t x) const { (void)cublasLtMatrixLayoutDestroy(x); }

  void operator()(cublasLtMatmulPreference_t x) const { (void)cublasLtMatmulPreferenceDestroy(x); }
};

template <typename Pointer>
using Owned = std::unique_ptr<std::remove_pointer_t<Pointer>, Destroy>;

// What an algorithm is chosen for. cuBLASLt's matrices are column-major: a row-major c = op(a) op(b) is its
// c^T = op(b)^T op(a)^T, so that b comes first, n is its number of rows and m of columns.
struct ProductKind {
  GemmSize size;
  bool transpose_a = false;
  bool transpose_b = false;
  DType in = DType::kF32;
  DType out = DType::kF32;
  // Alignment in bytes. More than 16 lets no kernel do better, and would let addresses change the choice.
  uint32_t align_a = 16;
  uint32_t align_b = 16;
  uint32_t align_c = 16;

  friend bool operator<(const ProductKind& x, const ProductKind& y) { return x.Key() < y.Key(); }

 private:
  [[nodiscard]] std::array<int64_t, 10> Key() const {
    return {size.m,
            size.n,
            size.k,
            transpose_a ? 1 : 0,
            transpose_b ? 1 : 0,
            static_cast<int64_t>(in),
            static_cast<int64_t>(out),
            align_a,
            align_b,
            align_c};
  }
};

uint32_t AlignmentOf(const TensorView& x) {
  const auto address = reinterpret_cast<uintptr_t>(x.data);
  return address % 16 == 0 ? 16 : static_cast<uint32_t>(address & (~address + 1));
}

ProductKind KindOf(const GemmArgs& args, const GemmSize& size) {
  return {.size = size,
          .transpose_a = args.transpose_a,
          .transpose_b = args.transpose_b,
          .in = args.a.dtype,
          .out = args.c.dtype,
          .align_a = AlignmentOf(args.a),
          .align_b = AlignmentOf(args.b),
          .align_c = AlignmentOf(args.c)};
}

cudaDataType_t TypeOf(DType dtype) {
  return dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
}

// A matrix of the row-major shape [rows, cols] as cuBLASLt sees it.
Owned<cublasLtMatrixLayout_t> Layout(DType dtype, int64_t rows, int64_t cols) {
  cublasLtMatrixLayout_t layout = nullptr;
  KSA_CUBLAS_CHECK(cublasLtMatrixLayoutCreate(
      &layout, TypeOf(dtype), static_cast<uint64_t>(cols), static_cast<uint64_t>(rows), cols));
  return Owned<cublasLtMatrixLayout_t>(layout);
}

template <typename T>
void Set(cublasLtMatmulPreference_t preference, cublasLtMatmulPreferenceAttributes_t attribute, const T& value) {
  KSA_CUBLAS_CHECK(cublasLtMatmulPreferenceSetAttribute(preference, attribute, &value, sizeof value));
}

cublasLtMatmulTile_t TileOf(const cublasLtMatmulHeuristicResult_t& result) {
  uint32_t tile = CUBLASLT_MATMUL_TILE_UNDEFINED;
  size_t written = 0;
  KSA_CUBLAS_CHECK(
      cublasLtMatmulAlgoConfigGetAttribute(&result.algo, CUBLASLT_ALGO_CONFIG_TILE_ID, &tile, sizeof tile, &written));
  return static_cast<cublasLtMatmulTile_t>(tile);
}

// So many algorithms are asked for.
constexpr int kChoices = 8;

// cuBLASLt lists the fastest first, by its own estimate. Measured on an H200 at the sizes of a 1.9B model (products of
// 895 to 36735 rows; docs/performance.md), tiles of 128x128 are faster wherever they are listed and fill the GPU (2 to
// 35 %), so are tiles of 176x128 in large products (5 %), and 192x192 and 320x128 are slower than what follows them (2
// to 4 %). Never decided by timing, which would make the bits of a run depend on chance.
const cublasLtMatmulHeuristicResult_t& Best(std::span<const cublasLtMatmulHeuristicResult_t> listed) {
  const auto find = [&](cublasLtMatmulTile_t tile, float fewest_waves) {
    return std::find_if(listed.begin(), listed.end(), [&](const cublasLtMatmulHeuristicResult_t& result) {
      return TileOf(result) == tile && result.wavesCount >= fewest_waves && result.state == CUBLAS_STATUS_SUCCESS;
    });
  };
  if (const auto small = find(CUBLASLT_MATMUL_TILE_128x128, 1.0F); small != listed.end()) {
    return *small;
  }
  if (const auto middle = find(CUBLASLT_MATMUL_TILE_176x128, 4.0F); middle != listed.end()) {
    return *middle;
  }
  const auto other = std::find_if(listed.begin(), listed.end(), [](const cublasLtMatmulHeuristicResult_t& result) {
    return TileOf(result) != CUBLASLT_MATMUL_TILE_192x192 && TileOf(result) != CUBLASLT_MATMUL_TILE_320x128 &&
           result.state == CUBLAS_STATUS_SUCCESS;
  });
  return other == listed.end() ? listed.front() : *other;
}

// One kind of product, ready to run.
class Plan {
 public:
  Plan(cublasLtHandle_t handle, const ProductKind& kind, int64_t workspace_bytes) {
    const GemmSize& s = kind.size;
    cublasLtMatmulDesc_t product = nullptr;
    KSA_CUBLAS_CHECK(cublasLtMatmulDescCreate(&product, CUBLAS_COMPUTE_32F, CUDA_R_32F));
    product_.reset(product);
    const cublasOperation_t first = kind.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = kind.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    KSA_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSA, &first, sizeof first));
    KSA_CUBLAS_CHECK(cublasLtMatmulDescSetAttribute(product, CUBLASLT_MATMUL_DESC_TRANSB, &second, sizeof second));
    a_ = kind.transpose_a ? Layout(kind.in, s.k, s.m) : Layout(kind.in, s.m, s.k);
    b_ = kind.transpose_b ? Layout(kind.in, s.n, s.k) : Layout(kind.in, s.k, s.n);
    c_ = Layout(kind.out, s.m, s.n);
    Choose(handle, kind, workspace_bytes);
  }

  void Run(cublasLtHandle_t handle, const GemmArgs& args, const Stream& stream) const {
    const auto alpha = static_cast<float>(args.alpha);
    const auto beta = static_cast<float>(args.beta);
    KSA_CUBLAS_CHECK(cublasLtMatmul(handle,
                                    product_.get(),
                                    &alpha,
                                    args.b.data,
                                    b_.get(),
                                    args.a.data,
                                    a_.get(),
                                    &beta,
                                    args.c.data,
                                    c_.get(),
                                    args.c.data,
                                    c_.get(),
                                    &algorithm_,
                                    stream.resources->workspace(),
                                    static_cast<size_t>(stream.resources->workspace_bytes()),
                                    Handle(stream)));
  }

 private:
  void Choose(cublasLtHandle_t handle, const ProductKind& kind, int64_t workspace_bytes) {
    cublasLtMatmulPreference_t preference = nullptr;
    KSA_CUBLAS_CHECK(cublasLtMatmulPreferenceCreate(&preference));
    const Owned<cublasLtMatmulPreference_t> owner(preference);
    Set(preference, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<uint64_t>(workspace_bytes));
    // Parts of a split k are added by a kernel of its own, in fp32: never in place, in the order they happen to end.
    Set(preference,
        CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, kind.align_b);
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, kind.align_a);
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, kind.align_c);
    Set(preference, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, kind.align_c);
    std::array<cublasLtMatmulHeuristicResult_t, kChoices> results{};
    int found = 0;
    KSA_CUBLAS_CHECK(cublasLtMatmulAlgoGetHeuristic(
        handle, product_.get(), b_.get(), a_.get(), c_.get(), c_.get(), preference, kChoices, results.data(), &found));
    KSA_CUBLAS_CHECK(found == 0 ? CUBLAS_STATUS_NOT_SUPPORTED : CUBLAS_STATUS_SUCCESS);
    algorithm_ = kind.in == DType::kBF16 ? Best({results.data(), static_cast<size_t>(found)}).algo : results[0].algo;
  }

  Owned<cublasLtMatmulDesc_t> product_;
  Owned<cublasLtMatrixLayout_t> a_;
  Owned<cublasLtMatrixLayout_t> b_;
  Owned<cublasLtMatrixLayout_t> c_;
  cublasLtMatmulAlgo_t algorithm_{};
};

// A model has a few dozen kinds of products a length of its batches; text that is generated has a length a token.
constexpr size_t kMostPlans = 512;

// A stream's handle of cuBLASLt, and the plans of the products that it has run of late.
class Plans final : public StreamResources::Item {
 public:
  explicit Plans(const Stream& stream) {
    KSA_CUDA_CHECK(cudaSetDevice(stream.device.ordinal));
    cublasLtHandle_t handle = nullptr;
    KSA_CUBLAS_CHECK(cublasLtCreate(&handle));
    handle_.reset(handle);
  }

  void Run(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
    const ProductKind kind = KindOf(args, size);
    const Plan* plan = plans_.Find(kind);
    if (plan == nullptr) {
      plan = &plans_.Insert(kind, Plan(handle_.get(), kind, stream.resources->workspace_bytes()));
    }
    plan->Run(handle_.get(), args, stream);
  }

 private:
  Owned<cublasLtHandle_t> handle_;
  LruCache<ProductKind, Plan> plans_{kMostPlans};
};

constexpr int kThreads = 256;

template <typename T>
__global__ void ScaleKernel(T* c, int64_t size, float beta) {
  const int64_t step = int64_t{1} * gridDim.x * blockDim.x;
  for (int64_t i = int64_t{1} * blockIdx.x * blockDim.x + threadIdx.x; i < size; i += step) {
    c[i] = T(beta == 0.0F ? 0.0F : beta * static_cast<float>(c[i]));
  }
}

// c = beta · c, which is what a product over nothing leaves.
template <typename T>
void Scale(const TensorView& c, double beta, const Stream& stream) {
  const int64_t blocks = std::min<int64_t>((c.size() + kThreads - 1) / kThreads, 4096);
  Launch("ScaleKernel",
         stream,
         {dim3(static_cast<unsigned>(blocks)), dim3(kThreads)},
         ScaleKernel<T>,
         c.As<T>(),
         c.size(),
         static_cast<float>(beta));
}

}  // namespace

void Gemm(const GemmArgs& args, const GemmSize& size, const Stream& stream) {
  if (args.a.dtype == DType::kF64) {
    Fail(ExitCode::kInternal, "Gemm: GPUs compute in fp32 and bf16, not in fp64");
  }
  if (size.m == 0 || size.n == 0 || stream.dry) {
    return;
  }
  if (size.k == 0) {
    args.c.dtype == DType::kBF16 ? Scale<BFloat16>(args.c, args.beta, stream) : Scale<float>(args.c, args.beta, stream);
    return;
  }
  if (CanTakeFewRows({&args, 1}, {&size, 1})) {
    FewRows({&args, 1}, {&size, 1}, stream);
    return;
  }
  KSA_CHECK(stream.resources != nullptr, "Gemm: a device stream needs its resources; make it by GpuStream");
  stream.resources->Get<Plans>(stream).Run(args, size, stream);
}

}  // namespace ksa::cuda
