#include "trainer/loop/end_summary.h"

#include <sstream>

#include <fmt/core.h>

#include "trainer/observe/log_line.h"
#include "trainer/observe/table.h"
#include "trainer/observe/validation_line.h"

namespace ksa {
namespace {

std::optional<double> BitsPerByte(const SourceSummary& source, double loss) {
  return source.bytes_per_target ? std::optional(BitsOf(loss) / *source.bytes_per_target) : std::nullopt;
}

TableCell CellOf(const std::optional<double>& value) {
  return value ? TableCell(*value) : TableCell();
}

void AddRow(Table& table, const SourceSummary& source, const std::string& which, const SourceSummary::Row& row) {
  table.AddRow({source.name,
                which,
                row.step,
                row.loss,
                CellOf(row.standard_error),
                BitsOf(row.loss),
                CellOf(BitsPerByte(source, row.loss)),
                FormatPerplexity(row.loss)});
}

// Two rows a source, one where the last validation was the best. 80 columns for names of up to 10.
std::string ValidationTable(const std::vector<SourceSummary>& sources) {
  Table table({{"source", "validation"},
               {"which", ""},
               {"step", "update"},
               {"loss", "nats/tok", 4},
               {"error", "+-", 4},
               {"bits", "bits/tok"},
               {"bits_byte", "bits/byte"},
               {"perplexity", "perplexity"}});
  for (const SourceSummary& source : sources) {
    const bool same = source.last.step == source.best.step;
    AddRow(table, source, same ? "last=best" : "last", source.last);
    if (!same) {
      AddRow(table, source, "best", source.best);
    }
  }
  return table.Text();
}

std::string Headline(const RunSummary& summary) {
  return fmt::format(
      "run {}: {} of {} updates, {} tokens in {}{}{}",
      summary.name,
      summary.updates,
      summary.max_steps,
      FormatCount(static_cast<double>(summary.tokens)),
      FormatDuration(summary.seconds),
      summary.starts > 1 ? fmt::format(" of {} starts", summary.starts) : "",
      summary.tokens_per_second ? fmt::format(", {} tok/s", FormatCount(*summary.tokens_per_second)) : "");
}

std::string TrainingLoss(const RunSummary& summary) {
  return fmt::format("training loss {:.4f} nats a token, {}",
                     *summary.training_loss,
                     summary.averaged > 1 ? fmt::format("mean of the last {} updates", summary.averaged)
                                          : std::string("of the last update"));
}

}  // namespace

std::vector<StyledLine> RenderSummary(const RunSummary& summary) {
  std::vector<StyledLine> lines = {{"", Style::kPlain}, {Headline(summary), Style::kStrong}};
  if (summary.training_loss) {
    lines.emplace_back(TrainingLoss(summary), Style::kPlain);
  }
  if (!summary.validation.empty()) {
    lines.emplace_back("", Style::kPlain);
    std::istringstream table(ValidationTable(summary.validation));
    for (std::string line; std::getline(table, line);) {
      lines.emplace_back(line, Style::kGood);
    }
    for (const SourceSummary& source : summary.validation) {
      if (source.samples_read > 0) {
        lines.emplace_back(
            fmt::format("of {}: {} of {} samples", source.name, source.samples_read, source.samples_there),
            Style::kPlain);
      }
    }
    lines.emplace_back("", Style::kPlain);
  }
  if (!summary.checkpoint.empty()) {
    lines.emplace_back("checkpoint " + summary.checkpoint, Style::kPlain);
  }
  if (!summary.next.empty()) {
    lines.emplace_back("next:", Style::kStrong);
    for (const std::string& command : summary.next) {
      lines.emplace_back("  " + command, command.front() == '#' ? Style::kPlain : Style::kAccent);
    }
  }
  return lines;
}

}  // namespace ksa
