#include "kernels/distill/attention_term.h"

#include "kernels/core/checks.h"
#include "kernels/core/dispatch.h"
#include "kernels/core/op.h"
#include "kernels/core/tensor_work.h"
#include "kernels/distill/attention_term_backends.h"

namespace ksa {

void AttentionTerm(const AttentionTermArgs& args, const Stream& stream) {
  const ArgumentCheck check("AttentionTerm", stream);
  check.Floating("student", args.student);
  check.Rank("student", args.student, 2);
  const DType dtype = args.student.dtype;
  const Shape& shape = args.student.shape;
  check.Tensor("student", args.student, dtype, shape);
  check.Tensor("teacher", args.teacher, dtype, shape);
  check.Optional("dstudent", args.dstudent, dtype, shape);
  check.Elements("sum", args.sum, DType::kF64, 1);
  if (args.student.size() == 0) {
    return;
  }
  const auto work = [&] { return MovedBy(WorkKind::kRows, {args.student, args.teacher, args.dstudent}); };
  RunOp("AttentionTerm", stream, {shape}, work, [&] {
    if (!stream.device.IsCpu()) {
      Allocator& scratch = RequireScratch("AttentionTerm", args.allocator);
      if (stream.dry) {
        static_cast<void>(TakeAttentionTermScratch(args, scratch));
      }
      KSA_CUDA_OR_FAIL("AttentionTerm", stream, cuda::AttentionTerm(args, scratch, stream));
      return;
    }
    DispatchFloating(dtype, [&](auto element) { cpu::AttentionTerm<decltype(element)>(args, stream); });
  });
}

}  // namespace ksa
