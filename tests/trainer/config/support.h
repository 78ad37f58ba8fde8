// What the tests of the configuration share.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "trainer/config/load.h"

namespace ksa::testing {

// The smallest run file that is complete.
inline constexpr const char* kBase =
    "run: {name: base}\n"
    "model: {vocab_size: 257, hidden_size: 32, intermediate_size: 48, num_hidden_layers: 4, num_attention_heads: 4}\n"
    "data: {train: [{path: data/a/train}]}\n"
    "training: {sequence_length: 64, global_batch_size: 8, max_steps: 100}\n"
    "optimizer: {lr: 1e-3}\n";

// A folder that is there for one test.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string path = (std::filesystem::temp_directory_path() / "ksa_config_XXXXXX").string();
    path_ = ::mkdtemp(path.data());
  }

  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  ~TemporaryFolder() { std::filesystem::remove_all(path_); }

  // Writes a file and gives its path.
  std::string Write(const std::string& name, const std::string& text) const {
    const std::filesystem::path path = path_ / name;
    std::filesystem::create_directories(path.parent_path());
    std::ofstream(path, std::ios::binary) << text;
    return path.string();
  }

  [[nodiscard]] std::string path() const { return path_.string(); }

  // `message` without this folder's path.
  [[nodiscard]] std::string Strip(std::string message) const {
    const std::string prefix = path() + "/";
    for (size_t at = message.find(prefix); at != std::string::npos; at = message.find(prefix)) {
      message.erase(at, prefix.size());
    }
    return message;
  }

 private:
  std::filesystem::path path_;
};

// Loads "include: [base.yaml]" and the snippet, whose first line is line 2 of t.yaml.
class Snippets {
 public:
  explicit Snippets(const std::string& base = kBase) { static_cast<void>(folder_.Write("base.yaml", base)); }

  [[nodiscard]] LoadedConfig Load(const std::string& snippet, const std::vector<std::string>& sets = {}) const {
    return ParseConfig("include: [base.yaml]\n" + snippet, folder_.path() + "/t.yaml", sets);
  }

  // The report, or "" if all is well.
  [[nodiscard]] std::string Report(const std::string& snippet, const std::vector<std::string>& sets = {}) const {
    try {
      static_cast<void>(Load(snippet, sets));
      return "";
    } catch (const Error& error) {
      return error.code() == ExitCode::kConfig ? folder_.Strip(error.what()) : "not a configuration error";
    }
  }

 private:
  TemporaryFolder folder_;
};

struct BadSnippet {
  std::string snippet;
  std::string report;
};

// Each snippet gives exactly its report.
inline void ExpectReports(const std::vector<BadSnippet>& cases) {
  const Snippets snippets;
  for (const BadSnippet& item : cases) {
    EXPECT_EQ(snippets.Report(item.snippet), item.report) << "for:\n" << item.snippet;
  }
}

}  // namespace ksa::testing
