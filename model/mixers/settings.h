// What the configuration says of a kind as a whole (model.attention.<kind>), of a type that the kind alone knows.
#pragma once

#include <any>
#include <utility>
#include <vector>

#include "kernels/core/error.h"

namespace ksa {

// A value of any type that can be copied and compared.
class AnyValue {
 public:
  template <typename T>
  explicit AnyValue(T value)
      : value_(std::move(value)), equals_([](const std::any& a, const std::any& b) {
          return std::any_cast<const T&>(a) == std::any_cast<const T&>(b);
        }) {}

  // Null when the value is of another type.
  template <typename T>
  [[nodiscard]] const T* As() const {
    return std::any_cast<T>(&value_);
  }

  template <typename T>
  [[nodiscard]] T* As() {
    return std::any_cast<T>(&value_);
  }

  friend bool operator==(const AnyValue& a, const AnyValue& b) {
    return a.value_.type() == b.value_.type() && a.equals_(a.value_, b.value_);
  }

 private:
  std::any value_;
  bool (*equals_)(const std::any&, const std::any&);
};

// One value a kind that has settings, each of a type of its own.
class MixerSettings {
 public:
  MixerSettings();  // every kind's defaults

  template <typename T>
  [[nodiscard]] const T& Of() const {
    for (const AnyValue& value : values_) {
      if (const T* found = value.As<T>(); found != nullptr) {
        return *found;
      }
    }
    Fail(ExitCode::kInternal, "no registered kind of layer has these settings; see model/mixers/registry.cc");
  }

  template <typename T>
  [[nodiscard]] T& Of() {
    return const_cast<T&>(std::as_const(*this).Of<T>());
  }

  friend bool operator==(const MixerSettings&, const MixerSettings&) = default;

 private:
  std::vector<AnyValue> values_;
};

}  // namespace ksa
