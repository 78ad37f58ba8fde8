#include "trainer/checkpoint/tensor_source.h"

#include <algorithm>
#include <cstring>

#include <fmt/ranges.h>

#include "kernels/copy/elementwise.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"

namespace ksa {

std::string DescribeShape(const std::vector<int64_t>& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

TensorPart WholeOf(const TensorInfo& tensor) {
  return RangeOf(tensor, {0, tensor.size()});
}

TensorPart RangeOf(const TensorInfo& tensor, const FlatRange& range) {
  TensorPart part;
  for (const int64_t size : tensor.shape) {
    part.box.push_back({0, size});
  }
  part.range = range;
  return part;
}

HeldRuns RunsOfBox(const std::vector<int64_t>& shape, const Block& box) {
  KSA_CHECK(box.size() == shape.size(), "a box of {} dimensions in a tensor of {}", box.size(), shape.size());
  const int64_t size = CheckedSize(shape);
  HeldRuns held = {1, size, size, 0};
  bool cut = false;
  int64_t behind = 1;
  for (size_t d = shape.size(); d-- > 0;) {
    if (box[d].size() != shape[d]) {
      KSA_CHECK(!cut, "a box that is cut in two dimensions");
      cut = true;
      const int64_t stride = shape[d] * behind;
      held = {size / stride, box[d].size() * behind, stride, box[d].begin * behind};
    }
    behind *= shape[d];
  }
  return held;
}

PartTarget::PartTarget(const std::vector<int64_t>& shape, const TensorPart& part, const TensorView& out)
    : held_(RunsOfBox(shape, part.box)), range_(part.range), out_(out) {
  KSA_CHECK(out.size() == range_.size(), "room for {} elements of {}", out.size(), range_.size());
}

void PartTarget::Take(const TensorView& values, int64_t first) const {
  const int64_t end = first + values.size();
  const int64_t begin_run = std::max<int64_t>(0, (first - held_.first) / held_.stride);
  for (int64_t i = begin_run; i < held_.runs && held_.first + i * held_.stride < end; ++i) {
    const int64_t in_tensor = held_.first + i * held_.stride;  // first element of the run
    const int64_t in_held = i * held_.length;
    const FlatRange wanted = Intersect({in_held, in_held + held_.length}, range_);
    const FlatRange part =
        Intersect({first, end}, {wanted.begin - in_held + in_tensor, wanted.end - in_held + in_tensor});
    if (wanted.size() > 0 && part.size() > 0) {
      const TensorView from = values.Rows(part.begin - first, part.size());
      const TensorView to = out_.Rows(part.begin - in_tensor + in_held - range_.begin, part.size());
      std::memcpy(to.data, from.data, static_cast<size_t>(from.bytes()));
    }
  }
}

FlatRange PartTarget::Span() const {
  return {held_.InWhole(range_.begin), held_.InWhole(range_.end - 1) + 1};
}

const TensorInfo* TensorSource::Find(std::string_view name) const {
  const std::vector<TensorInfo>& list = tensors();
  if (index_.empty()) {
    for (size_t i = 0; i < list.size(); ++i) {
      index_.emplace(list[i].name, i);
    }
  }
  const auto found = index_.find(name);
  return found == index_.end() ? nullptr : &list[found->second];
}

void ReadAs(TensorSource& source, const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  if (out.dtype == tensor.dtype) {
    source.Read(tensor, part, out);
    return;
  }
  HostAllocator memory;
  const Tensor values = Tensor::Empty({part.range.size()}, tensor.dtype, memory);
  source.Read(tensor, part, values);
  Copy(values, out, {});
}

void CopyTensors(TensorSource& source, TensorSink& sink) {
  for (const TensorInfo& to : sink.tensors()) {
    const TensorInfo* from = source.Find(to.name);
    KSA_CHECK(from != nullptr && from->shape == to.shape, "{} is to be written and is not there", to.name);
    ForEachBlock(to, [&](const FlatRange& range) {
      HostAllocator memory;
      const Tensor values = Tensor::Empty({range.size()}, to.dtype, memory);
      ReadAs(source, *from, RangeOf(*from, range), values);
      sink.Write(to, range.begin, values);
    });
  }
  sink.Finish();
}

}  // namespace ksa
