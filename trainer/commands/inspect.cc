#include "trainer/commands/inspect.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <fmt/core.h>
#include <nlohmann/json.hpp>

#include "data/files/result_file.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "model/ksa/attention_shares.h"
#include "trainer/commands/eval_sources.h"
#include "trainer/commands/number_option.h"
#include "trainer/commands/session.h"
#include "trainer/observe/table.h"

namespace ksa {
namespace {

using nlohmann::ordered_json;

struct InspectOptions {
  std::string checkpoint;
  EvalInput input;
  int32_t rows = 64;
  int32_t top = 5;
  DeviceOption device;
  std::optional<std::string> json;
};

constexpr size_t kShownSummaries = 12;
constexpr size_t kShownText = 48;  // bytes

// The first sample of a text, without the rows that follow a short one.
std::vector<int32_t> TokensOf(const EvalSources& opened) {
  const EvalSource& source = opened.sources.front();
  Batch batch;
  source.make_batch(TakeEvenly(1, source.samples), 0, 1, batch);
  size_t rows = batch.targets.size();
  while (rows > 1 && batch.targets[rows - 1] == Batch::kNoTarget) {
    --rows;
  }
  return {batch.inputs.begin(), batch.inputs.begin() + static_cast<std::ptrdiff_t>(rows)};
}

AttentionAnswer Ask(LoadedModel& loaded, const std::vector<int32_t>& tokens, const InspectOptions& options) {
  const auto count = static_cast<int32_t>(tokens.size());
  const ExecContext cx = loaded.runtime().Context();
  std::vector<int32_t> host = tokens;
  const Tensor ids = cx.Empty({count}, DType::kI32);
  CopyFromHost({host.data(), DType::kI32, {}, {count}}, ids, cx.stream);
  const KsaModel::Input input = {
      .ids = ids, .layout = MakeLayout(loaded.config().model, 1, count), .mix = loaded.mix()};
  return MeasureAttention(
      loaded.model(),
      cx,
      input,
      {RowsThatSeeSummaries(loaded.config().model, count, options.rows), static_cast<size_t>(options.top)});
}

// The text of a chunk.
std::string TextOfChunk(const std::vector<int32_t>& tokens,
                        int32_t chunk,
                        int32_t chunk_size,
                        const Tokenizer& tokenizer) {
  const size_t begin = static_cast<size_t>(chunk) * static_cast<size_t>(chunk_size);
  const size_t end = std::min(tokens.size(), begin + static_cast<size_t>(chunk_size));
  return tokenizer.Decode(std::span(tokens).subspan(begin, end - begin));
}

double SummaryShare(const HeadShares& shares) {
  double sum = 0;
  for (const AgeShare& age : shares.summaries_by_age) {
    sum += age.share;
  }
  return sum;
}

// One line of a terminal: control characters would move its cursor.
std::string Shown(const std::string& text) {
  std::string line;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    line += byte < 0x20 || byte == 0x7F ? (c == '\n' ? std::string("\\n") : std::string(" ")) : std::string(1, c);
  }
  if (line.size() > kShownText) {
    size_t end = kShownText;
    while (end > 0 && (static_cast<unsigned char>(line[end]) & 0xC0U) == 0x80U) {
      --end;
    }
    line.resize(end);
  }
  return line;
}

void PrintHeads(const AttentionAnswer& answer) {
  Table table({{"layer", "layer"},
               {"head", "head"},
               {"own", "own chunk", 3},
               {"window", "window", 3},
               {"summaries", "summaries", 3},
               {"age", "mean age", 1},
               {"reads", "summaries read: first", 3},
               {"last", "last", 3},
               {"others", "summaries", 3}});
  for (const HeadShares& shares : answer.heads) {
    const double summaries = SummaryShare(shares);
    double age = 0;
    for (const AgeShare& one : shares.summaries_by_age) {
      age += one.share * (one.from + one.to) / 2.0;
    }
    const bool sees = !shares.summaries_by_age.empty() && summaries > 0;
    const bool reads = !shares.summary_reads.empty();
    table.AddRow({int64_t{shares.layer},
                  int64_t{shares.head},
                  shares.own,
                  shares.window,
                  sees ? TableCell(summaries) : TableCell(),
                  sees ? TableCell(age / summaries) : TableCell(),
                  reads ? TableCell(shares.summary_reads.front()) : TableCell(),
                  reads ? TableCell(shares.summary_reads.back()) : TableCell(),
                  reads ? TableCell(shares.summary_reads_summaries) : TableCell()});
  }
  fmt::print("{}", table.Text());
}

void PrintTop(const AttentionAnswer& answer,
              const std::vector<int32_t>& tokens,
              int32_t chunk_size,
              const Tokenizer& tokenizer) {
  struct Used {
    const HeadShares* head;
    UsedSummary summary;
  };

  std::vector<Used> used;
  for (const HeadShares& head : answer.heads) {
    for (const UsedSummary& summary : head.top) {
      used.push_back({&head, summary});
    }
  }
  if (used.empty()) {
    fmt::print("\nno text of these rows sees a summary\n");
    return;
  }
  std::stable_sort(
      used.begin(), used.end(), [](const Used& a, const Used& b) { return a.summary.share > b.summary.share; });
  Table table(
      {{"share", "share", 4}, {"layer", "layer"}, {"head", "head"}, {"chunk", "chunk"}, {"text", "stands for"}});
  for (size_t i = 0; i < std::min(used.size(), kShownSummaries); ++i) {
    const Used& one = used[i];
    table.AddRow({one.summary.share,
                  int64_t{one.head->layer},
                  int64_t{one.head->head},
                  int64_t{one.summary.chunk},
                  Shown(TextOfChunk(tokens, one.summary.chunk, chunk_size, tokenizer))});
  }
  fmt::print("\nthe most used summaries\n\n{}", table.Text());
}

std::string JsonOf(const AttentionAnswer& answer,
                   const std::vector<int32_t>& tokens,
                   const LoadedModel& loaded,
                   const Tokenizer& tokenizer) {
  const int32_t chunk_size = loaded.config().model.ChunkSize();
  ordered_json json = {{"checkpoint", loaded.checkpoint().path},
                       {"tokens", tokens.size()},
                       {"chunk_size", chunk_size},
                       {"layers", ordered_json::array()},
                       {"without_attention", ordered_json::array()}};
  for (const HeadShares& shares : answer.heads) {
    ordered_json one = {{"layer", shares.layer},
                        {"head", shares.head},
                        {"share", {{"window", shares.window}, {"own", shares.own}}},
                        {"top", ordered_json::array()}};
    one["share"]["summaries_by_age"] = ordered_json::array();
    for (const AgeShare& age : shares.summaries_by_age) {
      one["share"]["summaries_by_age"].push_back({{"from", age.from}, {"to", age.to}, {"share", age.share}});
    }
    for (const UsedSummary& summary : shares.top) {
      one["top"].push_back({{"chunk", summary.chunk},
                            {"share", summary.share},
                            {"text", TextOfChunk(tokens, summary.chunk, chunk_size, tokenizer)}});
    }
    if (!shares.summary_reads.empty()) {
      one["summaries_read"] = {{"by_token", shares.summary_reads}, {"summaries", shares.summary_reads_summaries}};
    }
    json["layers"].push_back(std::move(one));
  }
  for (const auto& [layer, kind] : answer.others) {
    json["without_attention"].push_back({{"layer", layer}, {"kind", kind}});
  }
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

void Inspect(const InspectOptions& options) {
  LoadedModel loaded(options.checkpoint, options.device);
  const EvalSources opened = OpenEvalSources(loaded, options.input);
  const std::vector<int32_t> tokens = TokensOf(opened);
  const AttentionAnswer answer = Ask(loaded, tokens, options);
  const int32_t chunk_size = loaded.config().model.ChunkSize();
  const auto rows = RowsThatSeeSummaries(loaded.config().model, static_cast<int32_t>(tokens.size()), options.rows);
  fmt::print("{}: {} tokens of {}, chunks of {}\nattention of {} rows from {} on, shares of 1\n\n",
             loaded.checkpoint().path,
             tokens.size(),
             *options.input.text,
             chunk_size,
             rows.size(),
             rows.front());
  PrintHeads(answer);
  for (const auto& [layer, kind] : answer.others) {
    fmt::print("layer {}: {} has no attention weights\n", layer, kind);
  }
  PrintTop(answer, tokens, chunk_size, *opened.tokenizer);
  if (options.json) {
    WriteResult(*options.json, JsonOf(answer, tokens, loaded, *opened.tokenizer));
  }
}

}  // namespace

void AddInspectCommand(CLI::App& app) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "What attention is spent on: text, own chunk, summaries by age");
  command->add_option("checkpoint", options->checkpoint, "checkpoint, or run folder (its newest)")
      ->required()
      ->type_name("CKPT");
  command->add_option("--text", options->input.text, "the text to read, as one document")
      ->required()
      ->type_name("FILE");
  command->add_option("--sequence-length", options->input.sequence_length, "tokens of it at most; default: the run's")
      ->type_name("T")
      ->check(WholeNumber(1));
  command->add_option("--rows", options->rows, "rows whose attention is computed, spread over those that see summaries")
      ->capture_default_str()
      ->type_name("N")
      ->check(WholeNumber(1, 1 << 20));
  command->add_option("--top", options->top, "most used summaries of each head")
      ->capture_default_str()
      ->type_name("N")
      ->check(WholeNumber(0, 1000));
  AddDeviceOption(*command, options->device);
  command->add_option("--json", options->json, "all of it, for programs and for ksa report")->type_name("FILE");
  command->footer(
      "Examples:\n"
      "  ksa inspect runs/books --text README.md\n"
      "  ksa inspect runs/books --text README.md --rows 256 --json runs/books/attention.json\n"
      "\n"
      "The weights are attention's own, computed again from queries and keys of these rows. A row of the table is a\n"
      "head: what its text rows spend on their own chunk, on the text before it, on summaries, and how many chunks\n"
      "old these are; and, where summaries attend, what they spend on the first and the last token of their chunk and\n"
      "on summaries. `ksa report` draws a JSON file that lies in the run folder.");
  command->callback([options] { Inspect(*options); });
}

}  // namespace ksa
