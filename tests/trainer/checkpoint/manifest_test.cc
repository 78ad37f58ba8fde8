// Manifests: what is refused, and pieces that are boxes, as other layouts will write them.
#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <random>
#include <set>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "kernels/core/host_allocator.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa::testing {
namespace {

using nlohmann::json;

TensorPiece PieceOf(std::vector<int64_t> offset, std::vector<int64_t> shape, FlatRange flat) {
  TensorPiece piece;
  piece.offset = std::move(offset);
  piece.shape = std::move(shape);
  piece.flat = flat;
  piece.file = "rank_00000_of_00001.h5";
  piece.dataset = "d";
  return piece;
}

TensorEntry EntryOf(std::vector<int64_t> shape, std::vector<TensorPiece> pieces) {
  return {"weights/w", DType::kF32, std::move(shape), std::move(pieces)};
}

// Elements of a piece in order, as indices into the tensor: by walking the box one element after the other.
std::vector<int64_t> BruteForceElements(const TensorEntry& tensor, const TensorPiece& piece) {
  std::vector<int64_t> elements;
  std::vector<int64_t> at(piece.shape.size(), 0);
  for (int64_t i = 0; i < CheckedSize(piece.shape); ++i) {
    int64_t index = 0;
    for (size_t d = 0; d < at.size(); ++d) {
      index = index * tensor.shape[d] + piece.offset[d] + at[d];
    }
    if (i >= piece.flat.begin && i < piece.flat.end) {
      elements.push_back(index);
    }
    for (size_t d = at.size(); d-- > 0 && ++at[d] == piece.shape[d];) {
      at[d] = 0;
    }
  }
  return elements;
}

TEST(Tiling, RunsAndSpansAgreeWithElementByElement) {
  std::mt19937 random(3);
  const auto below = [&](int64_t n) { return static_cast<int64_t>(random() % static_cast<uint64_t>(n)); };
  for (int trial = 0; trial < 300; ++trial) {
    const auto rank = static_cast<size_t>(1 + below(4));
    std::vector<int64_t> shape(rank);
    std::vector<int64_t> offset(rank);
    std::vector<int64_t> box(rank);
    for (size_t d = 0; d < rank; ++d) {
      shape[d] = 1 + below(5);
      box[d] = below(2) == 0 ? shape[d] : 1 + below(shape[d]);
      offset[d] = below(shape[d] - box[d] + 1);
    }
    const int64_t size = CheckedSize(box);
    const int64_t begin = below(size);
    const TensorPiece piece = PieceOf(offset, box, {begin, begin + 1 + below(size - begin)});
    const TensorEntry tensor = EntryOf(shape, {piece});
    const std::vector<int64_t> expected = BruteForceElements(tensor, piece);

    const int64_t first = below(piece.size());
    const int64_t last = first + 1 + below(piece.size() - first);
    std::vector<int64_t> got;
    int64_t in_piece = first;
    RunsOf runs(tensor, piece, first, last);
    for (ksa::Run run; runs.Next(run);) {
      EXPECT_EQ(run.in_piece, in_piece);
      in_piece += run.size;
      for (int64_t i = 0; i < run.size; ++i) {
        got.push_back(run.in_tensor + i);
      }
    }
    EXPECT_EQ(got, std::vector<int64_t>(expected.begin() + first, expected.begin() + last));
  }
}

// Every index of a block, row-major.
std::vector<std::vector<int64_t>> IndicesOf(const Block& block) {
  std::vector<std::vector<int64_t>> all = {{}};
  for (const FlatRange& range : block) {
    std::vector<std::vector<int64_t>> longer;
    for (const std::vector<int64_t>& index : all) {
      for (int64_t i = range.begin; i < range.end; ++i) {
        longer.push_back(index);
        longer.back().push_back(i);
      }
    }
    all = std::move(longer);
  }
  return all;
}

// Against sets of elements, in one to four dimensions.
TEST(Tiling, BlocksAreTheElementsOfARange) {
  std::mt19937 random(2);
  const auto below = [&](size_t n) { return static_cast<int64_t>(random() % n); };
  using Indices = std::vector<std::vector<int64_t>>;
  const auto draw = [&](size_t rank, Indices& expected) {
    Block block;
    for (size_t d = 0; d < rank; ++d) {
      const int64_t begin = below(3);
      block.push_back({begin, begin + 1 + below(4)});
    }
    const Indices all = IndicesOf(block);
    const int64_t begin = below(all.size() + 1);
    const int64_t end = begin + below(all.size() - static_cast<size_t>(begin) + 1);
    expected.assign(all.begin() + begin, all.begin() + end);
    return BlocksOf(block, {begin, end});
  };
  for (int trial = 0; trial < 4000; ++trial) {
    const auto rank = static_cast<size_t>(1 + trial % 4);
    Indices expected;
    const std::vector<Block> blocks = draw(rank, expected);
    EXPECT_LE(blocks.size(), 2 * rank - 1);
    Indices actual;
    for (const Block& block : blocks) {
      const Indices some = IndicesOf(block);
      EXPECT_FALSE(some.empty());
      actual.insert(actual.end(), some.begin(), some.end());
    }
    EXPECT_EQ(actual, expected);
    Indices others;
    const bool overlap = Overlap(blocks, draw(rank, others));
    EXPECT_EQ(overlap, std::any_of(expected.begin(), expected.end(), [&](const auto& index) {
                return std::find(others.begin(), others.end(), index) != others.end();
              }));
  }
}

TEST(Tiling, AcceptsWhatTiles) {
  EXPECT_EQ(TilingFault(EntryOf({3, 4}, {PieceOf({0, 0}, {3, 4}, {5, 12}), PieceOf({0, 0}, {3, 4}, {0, 5})})), "");
  // Two column boxes, the second in two parts.
  EXPECT_EQ(
      TilingFault(EntryOf(
          {3, 4}, {PieceOf({0, 0}, {3, 1}, {0, 3}), PieceOf({0, 1}, {3, 3}, {0, 4}), PieceOf({0, 1}, {3, 3}, {4, 9})})),
      "");
}

TEST(Tiling, FindsHolesOverlapsAndPiecesOutside) {
  const auto fault = [](std::vector<TensorPiece> pieces) { return TilingFault(EntryOf({3, 4}, std::move(pieces))); };
  EXPECT_NE(fault({}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {0, 11})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {1, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {0, 5}), PieceOf({0, 0}, {3, 4}, {6, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {0, 7}), PieceOf({0, 0}, {3, 4}, {6, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {0, 12}), PieceOf({0, 0}, {3, 4}, {0, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {0, 13})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 4}, {4, 4}), PieceOf({0, 0}, {3, 4}, {0, 12})}), "");
  EXPECT_NE(fault({PieceOf({1, 0}, {3, 4}, {0, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {4, 4}, {0, 16})}), "");
  EXPECT_NE(fault({PieceOf({0}, {12}, {0, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, -1}, {3, 4}, {0, 12})}), "");
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 2}, {0, 6}), PieceOf({0, 1}, {3, 2}, {0, 6})}), "");  // overlap and hole
  EXPECT_NE(fault({PieceOf({0, 0}, {3, 2}, {0, 6}), PieceOf({0, 3}, {3, 1}, {0, 3})}), "");  // hole
  EXPECT_NE(fault({PieceOf({INT64_MAX, 0}, {3, 4}, {0, 12})}), "");
  EXPECT_EQ(CheckedSize({INT64_MAX, INT64_MAX}), -1);
  EXPECT_EQ(CheckedSize({int64_t{1} << 40, int64_t{1} << 24}), -1);
  EXPECT_EQ(CheckedSize({3, 0}), -1);
}

class ManifestText : public ::testing::Test {
 protected:
  void SetUp() override {
    path_ = SaveSmall(scratch_.path(), 4) + "/manifest.json";
    root_ = json::parse(Slurp(path_));
  }

  // The message with which the changed manifest is refused.
  std::string Refusal(const json& root) const {
    const Error error = ErrorOf([&] { static_cast<void>(ParseManifest(root.dump(), "m.json")); });
    EXPECT_EQ(error.code(), ExitCode::kBadData);
    EXPECT_EQ(std::string(error.what()).find("m.json: "), 0U) << error.what();
    return error.what();
  }

  json& Piece() { return root_["tensors"][1]["pieces"][0]; }

  ScratchFolder scratch_;
  std::string path_;
  json root_;
};

TEST_F(ManifestText, HoldsTheKeysOfTheContract) {
  for (const char* key :
       {"format", "version", "run_id", "step", "tokens", "samples", "mesh", "configuration", "tensors"}) {
    EXPECT_TRUE(root_.contains(key)) << key;
  }
  EXPECT_EQ(root_["format"], "ksa-checkpoint");
  const json piece = Piece();
  EXPECT_EQ(piece["offset"], (json{0, 0}));
  EXPECT_EQ(piece["shape"], (json{13, 5}));
  EXPECT_EQ(piece["flat"], (json{0, 65}));
  EXPECT_EQ(piece["file"], "rank_00000_of_00001.h5");
  EXPECT_EQ(piece["xxh3"].get<std::string>().size(), 16U);
  EXPECT_EQ(root_["tensors"][1]["dtype"], "fp32");
  EXPECT_EQ(ParseManifest(root_.dump(), "m.json").meta, MetaOf(4));
}

TEST_F(ManifestText, KeepsWhatARunMayAdd) {
  Manifest manifest = ParseManifest(root_.dump(), "m.json");
  EXPECT_FALSE(manifest.meta.tokenizer || manifest.meta.resumed_from || !manifest.meta.recent_grad_norms.empty());
  manifest.meta.tokenizer = {"tokenizer.tiktoken", 0x0123456789abcdefU};
  manifest.meta.resumed_from = {"ffffffffffffffff", 12};
  manifest.meta.recent_grad_norms = {0.0, 0.1, 1.0 / 3.0, 1e-310, 1.7976931348623157e308};
  manifest.meta.skips_in_a_row = 3;
  const std::string text = RenderManifest(manifest);
  EXPECT_EQ(ParseManifest(text, "m.json").meta, manifest.meta);
  const json root = json::parse(text);
  EXPECT_EQ(root["tokenizer"], (json{{"file", "tokenizer.tiktoken"}, {"xxh3", "0123456789abcdef"}}));
  EXPECT_EQ(root["resumed_from"], (json{{"run_id", "ffffffffffffffff"}, {"step", 12}}));
  // They are part of what the header's hash covers.
  json changed = root;
  changed["resumed_from"]["step"] = 13;
  EXPECT_NE(Refusal(changed).find("header_xxh3"), std::string::npos);
}

TEST_F(ManifestText, IsRefusedWithForeignAdditions) {
  root_.erase("header_xxh3");
  const auto refused = [&](const char* key, const json& value) {
    json changed = root_;
    changed[key] = value;
    return Refusal(changed);
  };
  for (const char* name : {"STOP", "metrics.jsonl", "../tokenizer.json", "manifest.json", "tokenizer", ""}) {
    EXPECT_NE(
        refused("tokenizer", {{"file", name}, {"xxh3", "0123456789abcdef"}}).find("no name of a tokenizer's file"),
        std::string::npos);
  }
  refused("tokenizer", {{"file", "tokenizer.json"}});
  refused("tokenizer", "tokenizer.json");
  refused("resumed_from", {{"run_id", "x"}, {"step", -1}});
  refused("resumed_from", {{"run_id", "x"}, {"step", 1}, {"path", "y"}});
  for (const json& value : {json("x"), json::array({1, "x"}), json::array({-1.0}), json::array({nullptr})}) {
    refused("recent_grad_norms", value);
  }
  refused("skips_in_a_row", -1);
  refused("skips_in_a_row", 1.5);
  const std::string text = root_.dump();
  const std::string huge = text.substr(0, text.size() - 1) + R"(,"recent_grad_norms":[1e999]})";
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(ParseManifest(huge, "m.json")); }).code(), ExitCode::kBadData);
}

// Hostile, not damaged: nothing is taken before it is known to be there.
TEST_F(ManifestText, BoundsDepthAndSizes) {
  const std::string deep = "{\"x\":" + std::string(300000, '[');
  EXPECT_NE(ErrorOf([&] { static_cast<void>(ParseManifest(deep, "m.json")); }).what(), nullptr);
  const std::string word = "\"" + std::string(1 << 20, 'a');  // not closed
  const Error error = ErrorOf([&] { static_cast<void>(ParseManifest(word, "m.json")); });
  EXPECT_LT(std::string(error.what()).size(), 1000U);
  // A tensor of 2^48 elements: 4 PiB of memory for a file of a few KiB.
  for (json& tensor : root_["tensors"]) {
    if (tensor["name"].get<std::string>().ends_with("/norm.weight")) {
      tensor["shape"] = tensor["pieces"][0]["shape"] = {int64_t{1} << 48};
      tensor["pieces"][0]["flat"] = {0, int64_t{1} << 48};
    }
  }
  Spill(path_, root_.dump());
  const Checkpoint checkpoint = OpenCheckpoint(path_.substr(0, path_.rfind('/')));
  HostAllocator allocator;
  const TensorEntry* tensor = checkpoint.manifest.Find("weights/norm.weight");
  ASSERT_NE(tensor, nullptr);
  const Error read = ErrorOf([&] { static_cast<void>(ReadTensor(checkpoint, *tensor, allocator)); });
  EXPECT_EQ(read.code(), ExitCode::kBadData);
  EXPECT_NE(std::string(read.what()).find("its tensors take"), std::string::npos) << read.what();
  std::vector<ParameterSpec> specs = SmallSpecs();
  specs.back().shape = {int64_t{1} << 48};
  const auto check = [&] { CheckSameModel(specs, DType::kF32, checkpoint, LoadParts::kWeights); };
  EXPECT_EQ(ErrorOf(check).code(), ExitCode::kBadData);
  specs.back().shape = {1};
  EXPECT_EQ(ErrorOf(check).code(), ExitCode::kConfig);
  EXPECT_EQ(VerifyCheckpoint(checkpoint).size(), 3U);
}

TEST_F(ManifestText, IsRefusedWithoutAnyOfItsKeys) {
  for (const auto& [key, value] : root_.items()) {
    if (key != "header_xxh3") {
      json changed = root_;
      changed.erase(key);
      Refusal(changed);
    }
  }
  const json piece = Piece();
  for (const auto& [key, value] : piece.items()) {
    Piece().erase(key);
    Refusal(root_);
    Piece() = piece;
  }
}

TEST_F(ManifestText, IsRefusedWithForeignTypesVersionsAndKeys) {
  for (const char* key : {"step", "tokens", "mesh", "tensors", "run_id"}) {
    json changed = root_;
    changed.erase("header_xxh3");
    changed[key] = 1.5;
    Refusal(changed);
  }
  json changed = root_;
  changed["version"] = 2;
  EXPECT_NE(Refusal(changed).find("version 2"), std::string::npos);
  changed = root_;
  changed["extra"] = 1;
  changed.erase("header_xxh3");
  EXPECT_NE(Refusal(changed).find("extra"), std::string::npos);
  EXPECT_NE(Refusal(json::array()), "");
  EXPECT_NE(Refusal({{"format", "ksa-tokens"}}).find("ksa-checkpoint"), std::string::npos);
  changed = root_;
  changed["tokens"] = 5;  // a header that was edited
  EXPECT_NE(Refusal(changed).find("header_xxh3"), std::string::npos);
}

TEST_F(ManifestText, IsRefusedWithPathsThatLeaveTheFolder) {
  for (const char* file : {"", "/etc/passwd", "../x.h5", "a/../../x.h5", "a//b.h5", "./x.h5", "a/", ".."}) {
    Piece()["file"] = file;
    EXPECT_NE(Refusal(root_).find("does not stay"), std::string::npos) << file;
  }
  Piece()["file"] = std::string("a\0b", 3);
  Refusal(root_);
}

TEST_F(ManifestText, IsRefusedWithHolesTwinsAndOrphans) {
  const json good = root_;
  Piece()["flat"] = {0, 64};
  EXPECT_NE(Refusal(root_).find("weights/layers.0.q_proj.weight"), std::string::npos);
  root_ = good;
  root_["tensors"].push_back(root_["tensors"][0]);
  EXPECT_NE(Refusal(root_).find("twice"), std::string::npos);
  root_ = good;
  root_["tensors"].erase(0);  // moments without their weights
  EXPECT_NE(Refusal(root_).find("exp_avg/embed.weight needs a tensor weights/embed.weight"), std::string::npos);
  root_ = good;
  root_["tensors"][0]["name"] = "gradients/embed.weight";
  Refusal(root_);
  root_ = good;
  root_["tensors"][0]["dtype"] = "bf16";
  Refusal(root_);
  root_ = good;
  root_["tensors"][0]["shape"] = {int64_t{1} << 40, int64_t{1} << 40};
  Refusal(root_);
  root_ = good;
  Piece()["xxh3"] = "123";
  Refusal(root_);
}

TEST_F(ManifestText, NeverCrashesOnGarbage) {
  const std::string good = root_.dump();
  std::mt19937_64 random(11);
  for (int trial = 0; trial < 2000; ++trial) {
    std::string bad = good;
    for (uint64_t i = random() % 8 + 1; i > 0; --i) {
      bad[random() % bad.size()] = static_cast<char>(random());
    }
    try {
      static_cast<void>(ParseManifest(bad, "m.json"));
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), ExitCode::kBadData);
    }
  }
}

// The layout that tensor parallelism will write: every matrix split by columns over two files, one half in two parts.
TEST(BoxPieces, AreReadLikeAnyOther) {
  const ScratchFolder scratch;
  const std::string folder = scratch / "boxes";
  std::filesystem::create_directory(folder);
  const std::vector<ParameterSpec> specs{{.name = "w", .shape = {6, 5}, .init_std = 1.0}};
  Manifest manifest{MetaOf(8), {}};
  std::map<std::string, std::vector<PieceDataset>> files;
  std::map<std::string, std::vector<uint64_t>> hashes;
  std::vector<std::vector<float>> contents;
  contents.reserve(16);
  const auto add = [&](TensorEntry& tensor, Kind kind, TensorPiece piece, const std::string& file) {
    std::vector<float> values;
    for (const int64_t element : BruteForceElements(tensor, piece)) {
      values.push_back(static_cast<float>(ValueOf(kind, 0, element)));
    }
    piece.file = file;
    piece.dataset = fmt::format("{}/{}", tensor.name, piece.flat.begin);
    piece.xxh3 = XXH3_64bits(values.data(), values.size() * sizeof(float));
    hashes[file].push_back(piece.xxh3);
    contents.push_back(std::move(values));
    files[file].push_back({piece.dataset, {contents.back().data(), DType::kF32, {}, {piece.size()}}});
    tensor.pieces.push_back(piece);
  };
  const std::vector<std::pair<Kind, std::string>> kinds{
      {Kind::kWeights, "weights/w"}, {Kind::kExpAvg, "exp_avg/w"}, {Kind::kExpAvgSq, "exp_avg_sq/w"}};
  for (const auto& [kind, name] : kinds) {
    TensorEntry tensor{name, DType::kF32, {6, 5}, {}};
    add(tensor, kind, PieceOf({0, 3}, {6, 2}, {0, 12}), "right.h5");
    add(tensor, kind, PieceOf({0, 0}, {6, 3}, {7, 18}), "left.h5");
    add(tensor, kind, PieceOf({0, 0}, {6, 3}, {0, 7}), "left.h5");
    manifest.tensors.push_back(tensor);
  }
  for (const auto& [file, datasets] : files) {
    EXPECT_EQ(WritePieceFile(folder + "/" + file, datasets, {}), hashes[file]);
  }
  Spill(folder + "/manifest.json", RenderManifest(manifest));
  const Checkpoint checkpoint = OpenCheckpoint(folder);
  EXPECT_TRUE(VerifyCheckpoint(checkpoint).empty());
  for (int rank = 0; rank < 2; ++rank) {
    HostAllocator allocator;
    ParameterStore store(specs, DType::kF32, allocator, {2, rank, true});
    LoadInto(store, checkpoint, LoadParts::kWeightsAndMoments, Stream{});
    ExpectState(store);
  }
}

}  // namespace
}  // namespace ksa::testing
