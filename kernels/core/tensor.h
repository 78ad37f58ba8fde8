// Tensor: a counted reference to contiguous memory with a shape and a type. TensorView: the same without ownership,
// which is what kernels take. Both are always contiguous and row-major.
#pragma once

#include <atomic>
#include <cstdint>

#include "kernels/core/allocator.h"
#include "kernels/core/device.h"
#include "kernels/core/dtype.h"
#include "kernels/core/error.h"
#include "kernels/core/shape.h"

namespace ksa {

// Does not own its memory. An empty view (data == nullptr) stands for an optional argument that was left out.
struct TensorView {
  void* data = nullptr;
  DType dtype = DType::kF32;
  Device device;
  Shape shape;

  [[nodiscard]] bool empty() const { return data == nullptr; }

  [[nodiscard]] int64_t size() const { return shape.size(); }

  [[nodiscard]] int64_t rows() const { return shape[0]; }

  [[nodiscard]] int64_t cols() const { return shape.RowSize(); }

  [[nodiscard]] int64_t bytes() const { return size() * SizeOf(dtype); }

  // The elements as T; T must be the view's type.
  template <typename T>
  [[nodiscard]] T* As() const {
    KSA_CHECK(data == nullptr || dtype == DTypeOf<T>::value,
              "a tensor of {} is read as {}",
              NameOf(dtype),
              NameOf(DTypeOf<T>::value));
    return static_cast<T*>(data);
  }

  [[nodiscard]] TensorView Rows(int64_t first, int64_t count) const;  // rows [first, first + count)
  [[nodiscard]] TensorView Reshape(const Shape& to) const;            // the same elements in another shape
};

// A block of memory and the number of tensors that refer to it.
class Storage {
 public:
  Storage(Allocator* allocator, int64_t bytes);
  Storage(const Storage&) = delete;
  Storage& operator=(const Storage&) = delete;
  ~Storage();

  [[nodiscard]] void* data() const { return data_; }

  [[nodiscard]] Device device() const { return allocator_->device(); }

  void Retain() { ++references_; }

  [[nodiscard]] bool Release() { return --references_ == 0; }

  [[nodiscard]] bool shared() const { return references_ > 1; }

 private:
  Allocator* allocator_;
  void* data_;
  int64_t bytes_;
  std::atomic<int> references_{0};
};

class Tensor {
 public:
  Tensor() = default;
  Tensor(const Tensor& other);
  Tensor(Tensor&& other) noexcept;
  Tensor& operator=(const Tensor& other);
  Tensor& operator=(Tensor&& other) noexcept;
  ~Tensor();

  // Uninitialised memory from `allocator`, which must outlive the tensor.
  [[nodiscard]] static Tensor Empty(const Shape& shape, DType dtype, Allocator& allocator);
  // The same, every byte zero. Host memory only.
  [[nodiscard]] static Tensor Zeros(const Shape& shape, DType dtype, Allocator& allocator);

  [[nodiscard]] const TensorView& view() const { return view_; }

  operator const TensorView&() const { return view_; }  // NOLINT(google-explicit-constructor)

  [[nodiscard]] bool empty() const { return storage_ == nullptr; }

  [[nodiscard]] const Shape& shape() const { return view_.shape; }

  [[nodiscard]] DType dtype() const { return view_.dtype; }

  [[nodiscard]] int64_t size() const { return view_.size(); }

  [[nodiscard]] int64_t rows() const { return view_.rows(); }

  [[nodiscard]] int64_t cols() const { return view_.cols(); }

  // Whether another tensor refers to the same memory.
  [[nodiscard]] bool shared() const { return storage_ != nullptr && storage_->shared(); }

  template <typename T>
  [[nodiscard]] T* As() const {
    return view_.As<T>();
  }

  // Both share this tensor's memory.
  [[nodiscard]] Tensor Rows(int64_t first, int64_t count) const;
  [[nodiscard]] Tensor Reshape(const Shape& to) const;

 private:
  Tensor(Storage* storage, TensorView view);

  Storage* storage_ = nullptr;
  TensorView view_;
};

}  // namespace ksa
