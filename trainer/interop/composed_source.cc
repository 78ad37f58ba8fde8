#include "trainer/interop/composed_source.h"

#include <utility>

#include <fmt/ranges.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"

namespace ksa {

ComposedTensor SameTensor(const TensorInfo& tensor) {
  return {tensor, {{tensor.name, 0, tensor.shape.empty() ? 1 : tensor.shape.front()}}};
}

FlatRange ElementsOf(const TensorInfo& tensor, const TensorPart& part) {
  const HeldRuns held = RunsOfBox(tensor.shape, part.box);
  KSA_CHECK(held.runs == 1, "{} is cut along its columns", tensor.name);
  return {held.first + part.range.begin, held.first + part.range.end};
}

ComposedSource::ComposedSource(std::shared_ptr<TensorSource> base, std::vector<ComposedTensor> tensors)
    : base_(std::move(base)), composed_(std::move(tensors)) {
  for (const ComposedTensor& tensor : composed_) {
    infos_.push_back(tensor.info);
  }
}

void ComposedSource::Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  const TensorInfo* own = Find(tensor.name);
  KSA_CHECK(own != nullptr, "{} is of another source", tensor.name);
  const ComposedTensor& composed = composed_[static_cast<size_t>(own - infos_.data())];
  const TensorInfo* only = composed.pieces.size() == 1 ? base_->Find(composed.pieces.front().tensor) : nullptr;
  if (only != nullptr && only->shape == own->shape) {
    ReadAs(*base_, *only, part, out);
    return;
  }
  const FlatRange wanted = ElementsOf(*own, part);
  const int64_t row = own->size() / own->shape.front();
  int64_t begin = 0;
  for (const RowPiece& piece : composed.pieces) {
    const FlatRange here = Intersect({begin, begin + piece.count * row}, wanted);
    if (here.size() > 0) {
      const TensorView to = out.Rows(here.begin - wanted.begin, here.size());
      if (piece.tensor.empty()) {
        Zero(to, {});
      } else {
        const TensorInfo* from = base_->Find(piece.tensor);
        KSA_CHECK(from != nullptr, "{} was found before", piece.tensor);
        const int64_t shift = piece.first * row - begin;
        ReadAs(*base_, *from, RangeOf(*from, {here.begin + shift, here.end + shift}), to);
      }
    }
    begin += piece.count * row;
  }
}

AverageSource::AverageSource(std::vector<std::unique_ptr<TensorSource>> sources) : sources_(std::move(sources)) {
  KSA_CHECK(!sources_.empty(), "an average of nothing");
  std::vector<std::string> lines;
  const TensorSource& first = *sources_.front();
  for (size_t i = 1; i < sources_.size(); ++i) {
    const TensorSource& other = *sources_[i];
    for (const TensorInfo& tensor : first.tensors()) {
      const TensorInfo* found = other.Find(tensor.name);
      if (found == nullptr || found->shape != tensor.shape || found->dtype != tensor.dtype) {
        lines.push_back(fmt::format(
            "{}: {} {} in {}, {} in {}",
            tensor.name,
            DescribeShape(tensor.shape),
            NameOf(tensor.dtype),
            first.where(),
            found == nullptr ? "not" : DescribeShape(found->shape) + " " + std::string(NameOf(found->dtype)),
            other.where()));
      }
    }
    for (const TensorInfo& tensor : other.tensors()) {
      if (first.Find(tensor.name) == nullptr) {
        lines.push_back(fmt::format("{}: only in {}", tensor.name, other.where()));
      }
    }
  }
  if (!lines.empty()) {
    Fail(ExitCode::kConfig,
         "only weights of one model have an average; {} difference(s):\n  {}",
         lines.size(),
         fmt::join(lines, "\n  "));
  }
}

void AverageSource::Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  HostAllocator memory;
  const Shape shape = {part.range.size()};
  const Tensor sum = Tensor::Zeros(shape, DType::kF64, memory);
  const Tensor wide = Tensor::Empty(shape, DType::kF64, memory);
  for (const std::unique_ptr<TensorSource>& source : sources_) {
    const TensorInfo* from = source->Find(tensor.name);
    KSA_CHECK(from != nullptr, "{} was found before", tensor.name);
    ReadAs(*source, *from, part, wide);
    Axpby(1.0, wide, 1.0, sum, {});
  }
  Axpby(0.0, sum, 1.0 / static_cast<double>(sources_.size()), sum, {});
  Copy(sum, out, {});
}

}  // namespace ksa
