// What files are by their first bytes.
#include "data/files/known_format.h"

#include <gtest/gtest.h>

#include "tests/data/support.h"

namespace ksa {
namespace {

using namespace std::string_view_literals;

std::string NameOfBytes(std::string_view bytes) {
  const std::optional<KnownFormat> format = FormatOfBeginning(bytes);
  return format ? std::string(format->name) : "";
}

TEST(KnownFormat, Beginnings) {
  EXPECT_EQ(NameOfBytes("\x1f\x8b\x08\x00rest"sv), "compressed (gzip)");
  EXPECT_EQ(NameOfBytes("\x28\xb5\x2f\xfd\x24"sv), "compressed (zstd)");
  EXPECT_EQ(NameOfBytes("\xfd"
                        "7zXZ\0\0\4"sv),
            "compressed (xz)");
  EXPECT_EQ(NameOfBytes("BZh91AY&SY"sv), "compressed (bzip2)");
  EXPECT_EQ(NameOfBytes("PAR1\x15\x04"sv), "a Parquet table");
  EXPECT_EQ(NameOfBytes("\x89HDF\r\n\x1a\n"sv), "an HDF5 file, perhaps a token shard already");
}

TEST(KnownFormat, TextIsNone) {
  for (const std::string_view text :
       {""sv, "B"sv, "BZhang wrote"sv, "PAR1 is a word"sv, "PK, said he"sv, "\x1f\x8b"sv, "?"sv}) {
    EXPECT_EQ(NameOfBytes(text), "") << text;
  }
}

TEST(KnownFormat, TheCureNamesTheFile) {
  const testing::TestFolder folder;
  testing::WriteFile(folder / "a.gz", "\x1f\x8b\x08 and so on");
  const std::optional<KnownFormat> format = FormatOfFile(folder / "a.gz");
  ASSERT_TRUE(format.has_value());
  EXPECT_EQ(CureFor(*format, "x/a.gz"), "unpack it first: gzip -dk x/a.gz");
  testing::WriteFile(folder / "short", "a");
  EXPECT_FALSE(FormatOfFile(folder / "short").has_value());
  EXPECT_KSA_ERROR(FormatOfFile(folder / "none"), ExitCode::kMissingInput, "none");
}

}  // namespace
}  // namespace ksa
