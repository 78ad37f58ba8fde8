#include "model/mixers/registry.h"

#include <array>

#include "model/mixers/full/full.h"
#include "model/mixers/gdn/gdn.h"
#include "model/mixers/hca/hca.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/mla/mla.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"

namespace ksa {

std::span<const MixerKind* const> MixerKinds() {
  static const std::array<const MixerKind*, 7> kKinds = {
      &KsaKind(),
      &FullKind(),
      &SwaKind(),
      &ScaKind(),
      &HcaKind(),
      &GdnKind(),
      &MlaKind(),
  };
  return kKinds;
}

}  // namespace ksa
