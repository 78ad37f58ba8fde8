// A model's parameters from weights that may lack some of them: continual pretraining from full attention.
// docs/design/interop.md, "New parameters".
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "model/autograd/parameter.h"
#include "trainer/checkpoint/tensor_source.h"
#include "trainer/config/config.h"

namespace ksa {

struct AdaptOptions {
  NewParameters new_parameters = NewParameters::kCopy;
  uint64_t seed = 1234;  // of initial values
  int threads = 1;
};

struct Adapted {
  std::unique_ptr<TensorSource> source;  // has every parameter under its name and in its shape
  std::vector<std::string> made;         // "NAME: how", one a parameter that the base lacks
  std::vector<std::string> unused;       // names of the base
};

// Error(kConfig) that lists every parameter whose shape differs, or which is neither in the base nor can be made.
[[nodiscard]] Adapted AdaptTo(const std::vector<ParameterSpec>& specs,
                              std::shared_ptr<TensorSource> base,
                              const AdaptOptions& options);

}  // namespace ksa
