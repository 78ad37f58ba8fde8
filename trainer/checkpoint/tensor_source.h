// Named tensors in a container, whatever the container is: a checkpoint, a safetensors folder, or another source seen
// differently. Loading, export, import, averages and comparisons are loops over these two faces.
// docs/design/interop.md.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"
#include "kernels/core/tensor.h"
#include "model/autograd/parameter.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {

struct TensorInfo {
  std::string name;
  DType dtype = DType::kF32;   // in which it is read: fp32 or fp64
  std::vector<int64_t> shape;  // at least one element

  [[nodiscard]] int64_t size() const { return CheckedSize(shape); }

  friend bool operator==(const TensorInfo&, const TensorInfo&) = default;
};

// "[3, 4]".
[[nodiscard]] std::string DescribeShape(const std::vector<int64_t>& shape);

// The elements `range`, counted row-major inside, of a box of a tensor. The box is cut in one dimension at most.
struct TensorPart {
  Block box;
  FlatRange range;
};

// All of a tensor, and a range of its elements.
[[nodiscard]] TensorPart WholeOf(const TensorInfo& tensor);
[[nodiscard]] TensorPart RangeOf(const TensorInfo& tensor, const FlatRange& range);

// Where the elements of a box lie in the whole tensor.
[[nodiscard]] HeldRuns RunsOfBox(const std::vector<int64_t>& shape, const Block& box);

// The part of a tensor that someone wants, and where it goes: `out` [range.size()] in host memory, the tensor's dtype.
class PartTarget {
 public:
  PartTarget(const std::vector<int64_t>& shape, const TensorPart& part, const TensorView& out);

  // `values` are the elements of the tensor from `first` on: copies those that are wanted.
  void Take(const TensorView& values, int64_t first) const;

  // The elements of the tensor among which the wanted ones lie.
  [[nodiscard]] FlatRange Span() const;

  [[nodiscard]] const HeldRuns& held() const { return held_; }

  [[nodiscard]] const FlatRange& range() const { return range_; }

 private:
  HeldRuns held_;
  FlatRange range_;
  TensorView out_;
};

class TensorSource {
 public:
  TensorSource() = default;
  TensorSource(const TensorSource&) = delete;
  TensorSource& operator=(const TensorSource&) = delete;
  virtual ~TensorSource() = default;

  // The path, for messages.
  [[nodiscard]] virtual const std::string& where() const = 0;

  // In the container's order; names are unique.
  [[nodiscard]] virtual const std::vector<TensorInfo>& tensors() const = 0;

  // Fills `out` [part.range.size()], of the tensor's dtype, in host memory. Errors name tensor and file: kBadData for
  // damage and for values that are not finite, kIo.
  virtual void Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) = 0;

  // Null when there is none.
  [[nodiscard]] const TensorInfo* Find(std::string_view name) const;

 private:
  mutable std::map<std::string, size_t, std::less<>> index_;  // made when it is first asked
};

// The same into `out` of another dtype, fp32 or fp64.
void ReadAs(TensorSource& source, const TensorInfo& tensor, const TensorPart& part, const TensorView& out);

// A container in the making: it knows its tensors beforehand.
class TensorSink {
 public:
  TensorSink() = default;
  TensorSink(const TensorSink&) = delete;
  TensorSink& operator=(const TensorSink&) = delete;
  virtual ~TensorSink() = default;

  // In the order in which they are written.
  [[nodiscard]] virtual const std::vector<TensorInfo>& tensors() const = 0;

  // The elements of a tensor from `first` on, in host memory, of the tensor's dtype. Each tensor whole, without gaps.
  virtual void Write(const TensorInfo& tensor, int64_t first, const TensorView& values) = 0;

  // Everything was written: makes it durable and gives it its name.
  virtual void Finish() = 0;
};

// Fills the sink from the source's tensors of the same names, a block at a time.
void CopyTensors(TensorSource& source, TensorSink& sink);

// Calls use(first, values) for the elements of a tensor in blocks, in order; `values` have the tensor's dtype.
inline constexpr int64_t kBlockElements = int64_t{1} << 25;  // 128 MiB in fp32

template <typename Use>
void ForEachBlock(const TensorInfo& tensor, const Use& use) {
  const int64_t size = tensor.size();
  for (int64_t begin = 0; begin < size; begin += kBlockElements) {
    use(FlatRange{begin, begin + kBlockElements < size ? begin + kBlockElements : size});
  }
}

}  // namespace ksa
