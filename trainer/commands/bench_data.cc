// `ksa bench data`: tokenizing and loading, on a text of the user's.
#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "data/files/file_error.h"
#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/loader/batch_stream.h"
#include "data/loader/dataset.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/tokenize.h"
#include "kernels/core/error.h"
#include "trainer/commands/bench.h"
#include "trainer/commands/bench_report.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/scratch_folder.h"

namespace ksa {
namespace {

constexpr const char* kExamples = R"(Examples:
  ksa bench data --input corpus.txt
  ksa bench data --input corpus.txt --tokenizer byte bpe.model --sequence-length 1024 --json data.json

`tokenize` is `ksa data tokenize` with one thread, from text file to finished shard, `encode` the tokenizer alone on the
lines of the same text in memory; MB/s are per second of processor time, so they are those of one core. `load` makes the
batches that training waits for. The shards lie in a folder for temporary files and are removed.)";

struct DataOptions {
  std::string input;
  std::vector<std::string> tokenizers = {"byte"};
  int32_t sequence_length = 1024;
  int64_t batch_size = 8;
  double seconds = 1.0;
  std::optional<std::string> json;
};

double WallSeconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Of all threads of this process.
double CpuSeconds() {
  return static_cast<double>(std::clock()) / CLOCKS_PER_SEC;
}

std::vector<std::string> ReadLines(const std::string& path) {
  static_cast<void>(File::OpenForReading(path));  // says what is wrong with it
  std::ifstream file(path, std::ios::binary);
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    lines.push_back(line);
  }
  return lines;
}

void AddTokenizing(const DataOptions& options, const std::string& name, const std::string& output, Table& table) {
  const auto bytes = static_cast<double>(FileBytes(options.input));
  const double cpu = CpuSeconds();
  const TokenizeSummary summary = TokenizeText({.inputs = {options.input}, .output = output, .tokenizer = name});
  const double used = CpuSeconds() - cpu;
  table.AddRow({std::string("tokenize"),
                name,
                summary.seconds * 1e3,
                bytes * 1e-6 / used,
                static_cast<double>(summary.train_tokens) / summary.seconds,
                {}});
}

void AddEncoding(const DataOptions& options,
                 const std::string& name,
                 const std::vector<std::string>& lines,
                 Table& table) {
  const std::unique_ptr<Tokenizer> tokenizer = OpenTokenizer(name);
  std::vector<int32_t> ids;
  int64_t tokens = 0;
  const double wall = WallSeconds();
  const double cpu = CpuSeconds();
  for (const std::string& line : lines) {
    ids.clear();
    tokenizer->Encode(line, ids);
    tokens += static_cast<int64_t>(ids.size());
  }
  const double used = CpuSeconds() - cpu;
  const double seconds = WallSeconds() - wall;
  const auto bytes = static_cast<double>(FileBytes(options.input));
  table.AddRow(
      {std::string("encode"), name, seconds * 1e3, bytes * 1e-6 / used, static_cast<double>(tokens) / seconds, {}});
}

void AddLoading(const DataOptions& options, const std::string& name, const std::string& shards, Table& table) {
  const Dataset dataset({.train = {{.path = shards, .name = "bench"}},
                         .sequence_length = options.sequence_length,
                         .vocab_size = OpenTokenizer(name)->vocab_size(),
                         .seed = 1234});
  BatchStream stream(dataset, {options.batch_size, 0, options.batch_size}, 1, int64_t{1} << 40);
  // The first epoch checks hashes, as in training; whether it ends here depends on the size of the text.
  int64_t samples = 0;
  const double begin = WallSeconds();
  double seconds = 0.0;
  while (seconds < options.seconds) {
    samples += stream.Next().samples;
    seconds = WallSeconds() - begin;
  }
  const double rate = static_cast<double>(samples) / seconds;
  table.AddRow({std::string("load"), name, seconds * 1e3, {}, rate * options.sequence_length, rate});
}

void BenchData(const DataOptions& options) {
  BenchReport report = {"data",
                        CpuName(),
                        1,
                        Table({{"work", "work", 0},
                               {"tokenizer", "tokenizer", 0},
                               {"milliseconds", "ms", 1},
                               {"megabytes_per_second", "MB/s a core", 1},
                               {"tokens_per_second", "tokens/s", 0},
                               {"samples_per_second", "samples/s", 0}}),
                        {}};
  const std::vector<std::string> lines = ReadLines(options.input);
  const ScratchFolder scratch;
  for (const std::string& name : options.tokenizers) {
    const std::string shards = fmt::format("{}/{}", scratch.path(), report.table.rows().size());
    AddTokenizing(options, name, shards, report.table);
    AddEncoding(options, name, lines, report.table);
    if (name != "byte") {  // which only copies: nothing to compare with
      const auto& rows = report.table.rows();
      const auto speed = [&rows](size_t back) { return std::get<double>(rows[rows.size() - back][3]); };
      report.findings.push_back(
          {"tokenize_over_encode_" + std::filesystem::path(name).filename().string(),
           fmt::format("{}: MB/s of the whole command over those of the tokenizer alone: {{:.2f}}", name),
           speed(2) / speed(1)});
    }
    AddLoading(options, name, shards, report.table);
  }
  Publish(report, options.json);
}

}  // namespace

void AddBenchDataCommand(CLI::App& bench) {
  const auto options = std::make_shared<DataOptions>();
  CLI::App* command = bench.add_subcommand("data", "Tokenizing and loading");
  command->add_option("--input", options->input, "a text file, some tens of MB; documents are lines")
      ->required()
      ->type_name("FILE");
  command->add_option("--tokenizer", options->tokenizers, "bytes, or files of tokenizers")
      ->type_name("byte|FILE")
      ->default_str("byte");
  command->add_option("--sequence-length", options->sequence_length, "T of the samples that are loaded")
      ->check(WholeNumber(1, 1 << 24))
      ->capture_default_str();
  command->add_option("--batch-size", options->batch_size, "samples of a batch")
      ->check(WholeNumber(1, 1 << 16))
      ->capture_default_str();
  command->add_option("--seconds", options->seconds, "how long to load")
      ->check(FiniteNumber(0.01, 3600))
      ->capture_default_str();
  command->add_option("--json", options->json, "also write the results to this file")->type_name("FILE");
  command->footer(kExamples);
  command->callback([options] { BenchData(*options); });
}

}  // namespace ksa
