#include "kernels/core/tensor.h"

#include <cstring>
#include <memory>
#include <utility>

namespace ksa {

int64_t SizeOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return 8;
    case DType::kF32:
    case DType::kI32:
      return 4;
    case DType::kBF16:
      return 2;
  }
  Fail(ExitCode::kInternal, "unknown dtype {}", static_cast<int>(dtype));
}

std::string_view NameOf(DType dtype) {
  switch (dtype) {
    case DType::kF64:
      return "fp64";
    case DType::kF32:
      return "fp32";
    case DType::kBF16:
      return "bf16";
    case DType::kI32:
      return "int32";
  }
  return "unknown";
}

TensorView TensorView::Rows(int64_t first, int64_t count) const {
  KSA_CHECK(shape.rank() > 0 && first >= 0 && count >= 0 && first + count <= rows(),
            "rows [{}, {}) of a tensor of shape {}",
            first,
            first + count,
            shape.ToString());
  TensorView view = *this;
  view.data = static_cast<char*>(data) + first * cols() * SizeOf(dtype);
  view.shape = shape.WithRows(count);
  return view;
}

TensorView TensorView::Reshape(const Shape& to) const {
  KSA_CHECK(to.size() == size(), "cannot reshape {} to {}", shape.ToString(), to.ToString());
  TensorView view = *this;
  view.shape = to;
  return view;
}

Storage::Storage(Allocator* allocator, int64_t bytes)
    : allocator_(allocator), data_(allocator->Allocate(bytes)), bytes_(bytes) {}

Storage::~Storage() {
  allocator_->Free(data_, bytes_);
}

Tensor::Tensor(Storage* storage, TensorView view) : storage_(storage), view_(std::move(view)) {
  if (storage_ != nullptr) {
    storage_->Retain();
  }
}

Tensor::Tensor(const Tensor& other) : Tensor(other.storage_, other.view_) {}

Tensor::Tensor(Tensor&& other) noexcept
    : storage_(std::exchange(other.storage_, nullptr)), view_(std::exchange(other.view_, TensorView{})) {}

Tensor& Tensor::operator=(const Tensor& other) {
  Tensor copy(other);
  *this = std::move(copy);
  return *this;
}

Tensor& Tensor::operator=(Tensor&& other) noexcept {
  std::swap(storage_, other.storage_);
  std::swap(view_, other.view_);
  if (this != &other) {
    Tensor drop(std::move(other));
  }
  return *this;
}

Tensor::~Tensor() {
  if (storage_ != nullptr && storage_->Release()) {
    const std::unique_ptr<Storage> last(storage_);
  }
}

Tensor Tensor::Empty(const Shape& shape, DType dtype, Allocator& allocator) {
  auto storage = std::make_unique<Storage>(&allocator, shape.size() * SizeOf(dtype));
  TensorView view{storage->data(), dtype, allocator.device(), shape};
  return {storage.release(), std::move(view)};
}

Tensor Tensor::Zeros(const Shape& shape, DType dtype, Allocator& allocator) {
  Tensor tensor = Empty(shape, dtype, allocator);
  KSA_CHECK(allocator.device().IsCpu(), "Tensor::Zeros is for host memory");
  std::memset(tensor.view_.data, 0, static_cast<size_t>(tensor.view_.bytes()));
  return tensor;
}

Tensor Tensor::Rows(int64_t first, int64_t count) const {
  return {storage_, view_.Rows(first, count)};
}

Tensor Tensor::Reshape(const Shape& to) const {
  return {storage_, view_.Reshape(to)};
}

}  // namespace ksa
