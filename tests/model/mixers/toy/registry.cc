// model/mixers/registry.cc and tests/support/naive_mixers.cc with a kind more. They stand in for those in one test
// program, whose linker has no need of the originals then.
#include "model/mixers/registry.h"

#include <array>

#include "model/mixers/full/full.h"
#include "model/mixers/gdn/gdn.h"
#include "model/mixers/hca/hca.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"
#include "tests/model/mixers/toy/pointwise.h"
#include "tests/support/naive_mixer.h"

namespace ksa {

std::span<const MixerKind* const> MixerKinds() {
  static const std::array<const MixerKind*, 8> kKinds = {
      &KsaKind(),
      &FullKind(),
      &SwaKind(),
      &ScaKind(),
      &HcaKind(),
      &GdnKind(),
      &MlaKind(),
      &testing::PointwiseKind(),
  };
  return kKinds;
}

namespace testing {
namespace {

void NaivePointwise(const NaiveLayer& layer) {
  for (NaiveRow* row : layer.rows) {
    row->mixed = NaiveMultiply(layer.get("pointwise.out_proj.weight"),
                               NaiveMultiply(layer.get("pointwise.in_proj.weight"), row->normed));
  }
}

bool WhereTheyAttend(const ModelConfig& config) {
  return config.ksa.full_layers == FullLayers::kAttend;
}

}  // namespace

std::vector<NaiveMixer> NaiveMixers() {
  std::vector<NaiveMixer> mixers = NaiveAttentionMixers();
  mixers.push_back(NaiveHcaMixer());
  mixers.push_back(NaiveGdnMixer());
  mixers.push_back({"pointwise", WhereTheyAttend, NaivePointwise});
  return mixers;
}

}  // namespace testing
}  // namespace ksa
