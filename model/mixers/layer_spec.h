// LayerSpec: which mixer a layer has, as a value.
#pragma once

#include <memory>
#include <utility>

namespace ksa {

class Mixer;  // model/mixers/mixer.h

class LayerSpec {
 public:
  explicit LayerSpec(std::shared_ptr<const Mixer> mixer) : mixer_(std::move(mixer)) {}

  [[nodiscard]] const Mixer& operator*() const { return *mixer_; }

  [[nodiscard]] const Mixer* operator->() const { return mixer_.get(); }

  // The same kind with the same values.
  friend bool operator==(const LayerSpec& a, const LayerSpec& b);

 private:
  std::shared_ptr<const Mixer> mixer_;
};

}  // namespace ksa
