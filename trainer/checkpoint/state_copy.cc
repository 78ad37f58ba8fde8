#include "trainer/checkpoint/state_copy.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr std::array<StateKind, 3> kKinds = {StateKind::kWeights, StateKind::kExpAvg, StateKind::kExpAvgSq};

}  // namespace

int64_t StateCopy::BytesOf(const ParameterStore& store) {
  int64_t elements = 0;
  for (const FlatRange& range : store.owned()) {
    elements += range.size();
  }
  return static_cast<int64_t>(kKinds.size()) * elements * SizeOf(store.state_dtype());
}

StateCopy::StateCopy(const ParameterStore& store, const Stream& stream)
    : store_(store), memory_(std::max<int64_t>(1, BytesOf(store)), stream), copies_(stream) {
  for (const FlatRange& range : store.owned()) {
    begins_.push_back(elements_);
    elements_ += range.size();
  }
  // The pages are there before the first save, which would wait for them.
  std::memset(memory_.data(), 0, static_cast<size_t>(memory_.bytes()));
}

void StateCopy::Take() {
  const StateRows source = RowsOfStore(store_);
  copies_.Begin();
  for (const StateKind kind : kKinds) {
    for (const FlatRange& range : store_.owned()) {
      copies_.Copy(source(kind, range), At(kind, range));
    }
  }
  copies_.End();
}

StateRows StateCopy::Rows() const {
  return [this](StateKind kind, const FlatRange& range) { return At(kind, range); };
}

TensorView StateCopy::At(StateKind kind, const FlatRange& range) const {
  const std::vector<FlatRange>& owned = store_.owned();
  for (size_t i = 0; i < owned.size(); ++i) {
    if (owned[i].begin <= range.begin && range.end <= owned[i].end) {
      const int64_t first = static_cast<int64_t>(kind) * elements_ + begins_[i] + range.begin - owned[i].begin;
      const DType dtype = store_.state_dtype();
      return {static_cast<char*>(memory_.data()) + first * SizeOf(dtype), dtype, {}, {range.size()}};
    }
  }
  Fail(ExitCode::kInternal, "elements {} to {} are none of this rank's", range.begin, range.end);
}

}  // namespace ksa
