// What the tests of data/ share: a folder of their own, small files, small shards, and errors as values.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "data/shards/shard_folder.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"

namespace ksa::testing {

// A folder that is removed at the end of the test.
class TestFolder {
 public:
  TestFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ksa-test-XXXXXX").string();
    path_ = mkdtemp(name.data());
  }

  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;

  ~TestFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  [[nodiscard]] std::string operator/(const std::string& name) const { return (path_ / name).string(); }

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

// While it lives, a test that runs as root has nobody's rights; as anybody else it changes nothing.
class AsNobody {
 public:
  AsNobody() : root_(geteuid() == 0) {
    if (root_) {
      EXPECT_EQ(seteuid(kNobody), 0);
    }
  }

  AsNobody(const AsNobody&) = delete;
  AsNobody& operator=(const AsNobody&) = delete;

  ~AsNobody() {
    if (root_) {
      EXPECT_EQ(seteuid(0), 0);
    }
  }

 private:
  static constexpr uid_t kNobody = 65534;

  bool root_;
};

inline void WriteFile(const std::string& path, const std::string& contents) {
  std::ofstream(path, std::ios::binary) << contents;
}

inline std::string ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

// The error that `run` throws; fails the test when it throws none.
template <typename Run>
Error ErrorOf(const Run& run) {
  try {
    run();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return {ExitCode::kDone, ""};
}

#define EXPECT_KSA_ERROR(statement, exit_code, part)                                            \
  do {                                                                                          \
    const ::ksa::Error caught = ::ksa::testing::ErrorOf([&] { static_cast<void>(statement); }); \
    EXPECT_EQ(static_cast<int>(caught.code()), static_cast<int>(exit_code)) << caught.what();   \
    EXPECT_NE(std::string(caught.what()).find(part), std::string::npos) << caught.what();       \
  } while (false)

using TestDocuments = std::vector<std::vector<int32_t>>;  // each with its eos

// Writes a shard folder of one shard a list of documents.
inline ShardIndex WriteShards(const std::string& folder,
                              const std::vector<TestDocuments>& shards,
                              const Tokenizer& tokenizer) {
  std::filesystem::create_directories(folder);
  ShardFolderWriter writer(folder, "part", tokenizer);
  for (const TestDocuments& documents : shards) {
    for (const std::vector<int32_t>& document : documents) {
      writer.shard().Append(document);
      writer.shard().EndDocument();
    }
    writer.EndShard();
  }
  return writer.Finish();
}

// Takes from the shards of a folder what older programs did not write: hashes of leaves and of the frame.
void RemoveLeaves(const std::string& folder);

// All tokens of a shard.
inline std::vector<int32_t> TokensOf(const TokenShard& shard) {
  std::vector<int32_t> tokens(static_cast<size_t>(shard.tokens()));
  shard.Read(0, tokens);
  return tokens;
}

// The documents of a folder as text, decoded, in order.
inline std::vector<std::string> TextsOf(const std::string& path) {
  const ShardFolder folder(path);
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(folder.TokenizerPath());
  std::vector<std::string> texts;
  for (const TokenShard& shard : folder.shards()) {
    const std::vector<int32_t> tokens = TokensOf(shard);
    const auto offsets = shard.document_offsets();
    for (size_t d = 0; d + 1 < offsets.size(); ++d) {
      EXPECT_EQ(tokens[offsets[d + 1] - 1], tokenizer->eos_id());
      texts.push_back(tokenizer->Decode(std::span(tokens).subspan(offsets[d], offsets[d + 1] - offsets[d] - 1)));
    }
  }
  return texts;
}

}  // namespace ksa::testing
