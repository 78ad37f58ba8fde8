#include <initializer_list>

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/delta_rule/delta_gates.h"
#include "kernels/delta_rule/delta_rows_scratch.h"
#include "kernels/delta_rule/delta_rule_backends.h"
#include "kernels/delta_rule/gated_norm.h"
#include "kernels/delta_rule/l2_norm.h"

namespace ksa {
namespace {

// Runs on_gpu() on a GPU, and call(element) on the CPU.
template <typename Gpu, typename Call>
void Run(const char* op,
         const TensorView& x,
         std::initializer_list<TensorView> moved,
         const Stream& stream,
         const Gpu& on_gpu,
         const Call& call) {
  RunOp(
      op,
      stream,
      {x.shape},
      [&] { return MovedBy(WorkKind::kRows, moved); },
      [&] {
        if (!stream.device.IsCpu()) {
          on_gpu();
          return;
        }
        DispatchFloating(x.dtype, call);
      });
}

void CheckHeads(const ArgumentCheck& check, const TensorView& x) {
  check.Floating("x", x);
  check.Rank("x", x, 3);
  check.Tensor("x", x, x.dtype, x.shape);
}

template <typename Args>
void CheckGates(const ArgumentCheck& check, const Args& args) {
  check.Floating("a", args.a);
  check.Rank("a", args.a, 2);
  const int64_t heads = args.a.cols();
  check.Tensor("a", args.a, args.a.dtype, args.a.shape);
  check.Tensor("b", args.b, args.a.dtype, args.a.shape);
  check.Tensor("a_log", args.a_log, args.a_log.dtype, {heads});
  check.Tensor("dt_bias", args.dt_bias, args.a_log.dtype, {heads});
  KSA_CHECK(args.a_log.dtype == args.a.dtype || args.a_log.dtype == AccumulationType(args.a.dtype),
            "delta gates: a_log is {}, a {}",
            NameOf(args.a_log.dtype),
            NameOf(args.a.dtype));
}

template <typename Args>
void CheckGatedNorm(const ArgumentCheck& check, const Args& args) {
  CheckHeads(check, args.x);
  check.Tensor("z", args.z, args.x.dtype, args.x.shape);
  check.Tensor("weight", args.weight, args.x.dtype, {args.x.shape[2]});
}

}  // namespace

void L2NormForward(const L2NormForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("L2NormForward", stream);
  CheckHeads(check, args.x);
  check.Tensor("y", args.y, args.x.dtype, args.x.shape);
  const auto on_gpu = [&] { KSA_CUDA_OR_FAIL("L2NormForward", stream, cuda::L2NormForward(args, stream)); };
  Run("L2NormForward", args.x, {args.x, args.y}, stream, on_gpu, [&](auto element) {
    cpu::L2NormForward<decltype(element)>(args, stream);
  });
}

void L2NormBackward(const L2NormBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("L2NormBackward", stream);
  CheckHeads(check, args.x);
  check.Tensor("dy", args.dy, args.x.dtype, args.x.shape);
  check.Tensor("dx", args.dx, args.x.dtype, args.x.shape);
  const auto on_gpu = [&] { KSA_CUDA_OR_FAIL("L2NormBackward", stream, cuda::L2NormBackward(args, stream)); };
  Run("L2NormBackward", args.x, {args.x, args.dy, args.dx}, stream, on_gpu, [&](auto element) {
    cpu::L2NormBackward<decltype(element)>(args, stream);
  });
}

void DeltaGatesForward(const DeltaGatesForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("DeltaGatesForward", stream);
  CheckGates(check, args);
  check.Tensor("g", args.g, AccumulationType(args.a.dtype), args.a.shape);
  check.Tensor("beta", args.beta, AccumulationType(args.a.dtype), args.a.shape);
  const auto on_gpu = [&] { KSA_CUDA_OR_FAIL("DeltaGatesForward", stream, cuda::DeltaGatesForward(args, stream)); };
  Run("DeltaGatesForward", args.a, {args.a, args.b, args.g, args.beta}, stream, on_gpu, [&](auto element) {
    cpu::DeltaGatesForward<decltype(element)>(args, stream);
  });
}

void DeltaGatesBackward(const DeltaGatesBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("DeltaGatesBackward", stream);
  CheckGates(check, args);
  const DType exact = AccumulationType(args.a.dtype);
  check.Tensor("dg", args.dg, exact, args.a.shape);
  check.Tensor("dbeta", args.dbeta, exact, args.a.shape);
  check.Tensor("da", args.da, args.a.dtype, args.a.shape);
  check.Tensor("db", args.db, args.a.dtype, args.a.shape);
  check.Optional("da_log", args.da_log, exact, {args.a.cols()});
  check.Optional("ddt_bias", args.ddt_bias, exact, {args.a.cols()});
  const auto on_gpu = [&] {
    if (stream.dry) {
      static_cast<void>(DeltaGatesPartials(args));
    }
    KSA_CUDA_OR_FAIL("DeltaGatesBackward", stream, cuda::DeltaGatesBackward(args, stream));
  };
  Run("DeltaGatesBackward",
      args.a,
      {args.a, args.b, args.dg, args.dbeta, args.da, args.db},
      stream,
      on_gpu,
      [&](auto element) { cpu::DeltaGatesBackward<decltype(element)>(args, stream); });
}

void GatedNormForward(const GatedNormForwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("GatedNormForward", stream);
  CheckGatedNorm(check, args);
  check.Tensor("y", args.y, args.x.dtype, args.x.shape);
  const auto on_gpu = [&] { KSA_CUDA_OR_FAIL("GatedNormForward", stream, cuda::GatedNormForward(args, stream)); };
  Run("GatedNormForward", args.x, {args.x, args.z, args.y}, stream, on_gpu, [&](auto element) {
    cpu::GatedNormForward<decltype(element)>(args, stream);
  });
}

void GatedNormBackward(const GatedNormBackwardArgs& args, const Stream& stream) {
  const ArgumentCheck check("GatedNormBackward", stream);
  CheckGatedNorm(check, args);
  check.Tensor("dy", args.dy, args.x.dtype, args.x.shape);
  check.Tensor("dx", args.dx, args.x.dtype, args.x.shape);
  check.Tensor("dz", args.dz, args.x.dtype, args.x.shape);
  check.Optional("dweight", args.dweight, AccumulationType(args.x.dtype), {args.x.shape[2]});
  const auto on_gpu = [&] {
    if (stream.dry) {
      static_cast<void>(GatedNormPartials(args));
    }
    KSA_CUDA_OR_FAIL("GatedNormBackward", stream, cuda::GatedNormBackward(args, stream));
  };
  Run("GatedNormBackward", args.x, {args.x, args.z, args.dy, args.dx, args.dz}, stream, on_gpu, [&](auto element) {
    cpu::GatedNormBackward<decltype(element)>(args, stream);
  });
}

}  // namespace ksa
