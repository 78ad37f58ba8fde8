// Every registered kind of layer is everywhere where it has to be.
#include "model/mixers/registry.h"

#include <set>

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include "model/mixers/full/full.h"
#include "model/mixers/ksa/ksa.h"
#include "model/mixers/sca/sca.h"
#include "model/mixers/swa/swa.h"
#include "tests/model/mixers/coverage.h"

namespace ksa {
namespace {

TEST(MixerRegistry, NoKindIsMissingAnywhere) {
  for (const MixerKind* kind : MixerKinds()) {
    const std::vector<std::string> missing = testing::MissingOf(*kind);
    EXPECT_TRUE(missing.empty()) << kind->name() << ":\n  " << fmt::format("{}", fmt::join(missing, "\n  "));
  }
}

TEST(MixerRegistry, NamesAreDistinct) {
  std::set<std::string_view> names;
  for (const MixerKind* kind : MixerKinds()) {
    EXPECT_TRUE(names.insert(kind->name()).second) << kind->name();
    EXPECT_EQ(FindMixerKind(kind->name()), kind);
  }
  EXPECT_EQ(FindMixerKind("ks"), nullptr);
}

TEST(LayerSpecTest, AreEqualByKindAndValues) {
  EXPECT_EQ(KsaLayer(3), KsaLayer(3));
  EXPECT_NE(KsaLayer(3), KsaLayer(4));
  EXPECT_NE(KsaLayer(3), ScaLayer(3));
  EXPECT_EQ(FullLayer(), FullLayer());
  EXPECT_NE(SwaLayer(3), SwaLayer(4));
}

TEST(MixerSettingsTest, BelongToTheirModel) {
  ModelConfig one;
  ModelConfig other = one;
  EXPECT_EQ(one, other);
  other.mixers.Of<SwaConfig>().window = 5;
  EXPECT_EQ(one.mixers.Of<SwaConfig>().window, std::nullopt);
  EXPECT_NE(one, other);
  one = other;
  EXPECT_EQ(one, other);

  struct Foreign {
    bool operator==(const Foreign&) const = default;
  };

  EXPECT_THROW((void)one.mixers.Of<Foreign>(), Error);
}

}  // namespace
}  // namespace ksa
