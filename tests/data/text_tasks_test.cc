// Tasks of text: decoded, their samples hold what they ask for, and the answers are the ones that a reader finds.
#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "tests/data/support.h"
#include "tests/data/task_samples.h"

namespace ksa {
namespace {

using testing::TaskCase;

struct ReadSample {
  std::string text;                  // of all ids, the answers with them
  std::vector<std::string> answers;  // without the space in front
  std::vector<double> by;
  int64_t rows = 0;  // up to the last target
};

// Every target is the id that follows, but for the last, which follows nothing.
ReadSample Read(const std::string& task, int32_t length, int64_t number) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeByteTokenizer();
  const TaskCase of = {.task = task, .length = length, .vocab_size = 257};
  const TaskStream stream(ParseTaskSpec(task), "a", TaskUse::kValidation, of.Config(), tokenizer.get());
  Batch batch;
  ResizeBatch(0, 1, of.Config(), batch);
  std::vector<TaskAnswer> answers;
  stream.Fill(number, 0, batch, &answers);
  ReadSample read;
  int64_t targets = 0;
  for (const TaskAnswer& answer : answers) {
    std::vector<int32_t> ids;
    for (int32_t row = answer.row; row < answer.row + answer.length; ++row) {
      ids.push_back(batch.targets[static_cast<size_t>(row)]);
      EXPECT_TRUE(row + 1 == length || batch.inputs[static_cast<size_t>(row) + 1] == ids.back()) << "row " << row;
    }
    targets += answer.length;
    read.answers.push_back(tokenizer->Decode(ids));
    EXPECT_EQ(read.answers.back().front(), ' ');
    read.answers.back().erase(0, 1);
    read.by.push_back(answer.by[0]);
    read.rows = answer.row + answer.length;
  }
  EXPECT_EQ(targets, batch.target_count) << "rows behind no answer have no target";
  std::vector<int32_t> ids(batch.inputs.begin(), batch.inputs.begin() + read.rows);
  ids.push_back(batch.targets[static_cast<size_t>(read.rows) - 1]);
  read.text = tokenizer->Decode(ids);
  return read;
}

// The values that the text in front of the question gives to `key`, in its order.
std::vector<std::string> ValuesOf(const std::string& text, const std::string& key) {
  const std::regex needle("special magic \\w+ for " + key + " is: ([0-9a-z-]+)\\.");
  std::vector<std::string> values;
  for (std::sregex_iterator at(text.begin(), text.end(), needle); at != std::sregex_iterator(); ++at) {
    values.push_back((*at)[1]);
  }
  return values;
}

TEST(TextTasks, Needles) {
  const std::map<std::string, size_t> answers = {{"niah_single", 1},
                                                 {"niah_single:type_needle_k=numbers,type_needle_v=uuids", 1},
                                                 {"niah_multikey", 1},
                                                 {"niah_multikey:type_haystack=noise,num_needle_k=6", 1},
                                                 {"niah_multivalue:num_needle_v=3", 3}};
  for (const auto& [task, count] : answers) {
    for (const int32_t length : {1024, 1777}) {
      for (int64_t number = 0; number < 5; ++number) {
        SCOPED_TRACE(fmt::format("{} of {}, sample {}", task, length, number));
        const ReadSample sample = Read(task, length, number);
        EXPECT_GT(sample.rows, length - 100) << "a line of noise more would have had room";
        std::smatch asked;
        ASSERT_TRUE(std::regex_search(sample.text, asked, std::regex("are all the special magic \\w+ for (\\S+) ")));
        std::vector<std::string> values = ValuesOf(sample.text, asked[1]);
        std::vector<std::string> given = sample.answers;
        ASSERT_EQ(given.size(), count);
        std::sort(values.begin(), values.end());
        std::sort(given.begin(), given.end());
        EXPECT_EQ(given, values);
        const size_t all = ValuesOf(sample.text, "\\S+").size();
        if (task == "niah_multikey") {
          EXPECT_GT(all, static_cast<size_t>(length) / 100) << "the haystack is of needles";
        } else {
          EXPECT_EQ(all, task.find("=noise") != std::string::npos ? 6 : count);
        }
      }
    }
  }
}

TEST(TextTasks, ANeedleLiesAtItsDepth) {
  for (const double depth : {0.0, 0.25, 1.0}) {
    const ReadSample sample = Read(fmt::format("niah_single:depth={}", depth), 4096, 1);
    EXPECT_EQ(sample.by, std::vector<double>{depth});
    const auto at = static_cast<double>(sample.text.find("One of the special magic"));
    EXPECT_NEAR(at / static_cast<double>(sample.rows), depth, 0.08);
  }
}

TEST(TextTasks, VariablesAreTracked) {
  for (const char* task : {"vt", "vt:num_chains=3,num_hops=2"}) {
    for (int64_t number = 0; number < 5; ++number) {
      const ReadSample sample = Read(task, 1500, number);
      std::smatch asked;
      ASSERT_TRUE(std::regex_search(sample.text, asked, std::regex("assigned the value (\\d+) in the text")));
      std::map<std::string, std::pair<std::string, double>> holds;  // value, hops
      const std::regex line("VAR (\\w+) = (VAR )?(\\w+)");
      for (std::sregex_iterator at(sample.text.begin(), sample.text.end(), line); at != std::sregex_iterator(); ++at) {
        const std::string from = (*at)[3];
        holds[(*at)[1]] =
            (*at)[2].matched ? std::pair{holds.at(from).first, holds.at(from).second + 1} : std::pair{from, 0.0};
      }
      std::vector<std::string> names;
      std::vector<double> hops;
      for (const auto& [name, held] : holds) {
        if (held.first == asked[1]) {
          names.push_back(name);
          hops.push_back(held.second);
        }
      }
      EXPECT_EQ(sample.answers, names);
      EXPECT_EQ(sample.by, hops);
      EXPECT_EQ(names.size(), std::string(task) == "vt" ? 5U : 3U);
    }
  }
}

// The words of the list, by how often they come.
std::map<std::string, int> CountWords(const std::string& text) {
  std::istringstream words(text.substr(0, text.find("\nQuestion:")));
  std::map<std::string, int> counts;
  std::string instruction;
  std::getline(words, instruction);
  for (std::string word; words >> word;) {
    ++counts[word];
  }
  return counts;
}

TEST(TextTasks, CommonWords) {
  for (int64_t number = 0; number < 3; ++number) {
    const ReadSample sample = Read("cwe:freq_cw=6,freq_ucw=2,num_cw=5", 700, number);
    std::set<std::string> common;
    for (const auto& [word, count] : CountWords(sample.text)) {
      EXPECT_TRUE(count == 6 || count == 2) << word << " comes " << count << " times";
      if (count == 6) {
        common.insert(word);
      }
    }
    EXPECT_EQ(common.size(), 5U);
    EXPECT_EQ(sample.answers, std::vector<std::string>(common.begin(), common.end()));
  }
}

TEST(TextTasks, FrequentWords) {
  for (int64_t number = 0; number < 3; ++number) {
    const ReadSample sample = Read("fwe", 2048, number);
    std::vector<std::pair<int, std::string>> counts;
    for (const auto& [word, count] : CountWords(sample.text)) {
      counts.emplace_back(-count, word);
    }
    std::sort(counts.begin(), counts.end());
    ASSERT_GT(counts.size(), 4U);
    for (size_t rank = 0; rank < 3; ++rank) {
      EXPECT_EQ(sample.answers.at(rank), counts[rank].second);
      EXPECT_LT(counts[rank].first, counts[rank + 1].first) << "of two that come as often none is the answer";
    }
  }
}

TEST(TextTasks, Refusals) {
  const std::unique_ptr<Tokenizer> tokenizer = MakeByteTokenizer();
  const auto make = [&](const char* task, int32_t length, const Tokenizer* with) {
    const TaskCase of = {.task = task, .length = length, .vocab_size = 257};
    return TaskStream(ParseTaskSpec(task), "a", TaskUse::kTraining, of.Config(), with);
  };
  EXPECT_KSA_ERROR(make("niah_single", 512, nullptr), ExitCode::kConfig, "data.train has no shard folder");
  EXPECT_KSA_ERROR(make("niah_single", 200, tokenizer.get()), ExitCode::kConfig, "does not fit into 200 rows");
  EXPECT_KSA_ERROR(make("vt", 300, tokenizer.get()), ExitCode::kConfig, "300 rows are too few");
  EXPECT_KSA_ERROR(make("cwe", 512, tokenizer.get()), ExitCode::kConfig, "512 rows are too few");
  EXPECT_KSA_ERROR(make("fwe", 260, tokenizer.get()), ExitCode::kConfig, "260 rows are too few");
  EXPECT_KSA_ERROR(make("cwe:freq_cw=3", 4096, tokenizer.get()), ExitCode::kConfig, "freq_cw 3 is not more");
  EXPECT_KSA_ERROR(
      make("niah_multikey:num_needle_k=4", 4096, tokenizer.get()), ExitCode::kConfig, "counts needles among noise");
  const std::unique_ptr<Tokenizer> external = MakeExternalTokenizer("imported", 300, 0);
  EXPECT_KSA_ERROR(make("vt", 4096, external.get()), ExitCode::kConfig, "does not spell any");
}

}  // namespace
}  // namespace ksa
