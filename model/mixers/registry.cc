#include "model/mixers/registry.h"

#include <array>

#include "model/mixers/full/full.h"
#include "model/mixers/hca/hca.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"

namespace ksa {

std::span<const MixerKind* const> MixerKinds() {
  static const std::array<const MixerKind*, 6> kKinds = {
      &KsaKind(),
      &FullKind(),
      &SwaKind(),
      &ScaKind(),
      &HcaKind(),
      &MlaKind(),
  };
  return kKinds;
}

}  // namespace ksa
