// metrics.jsonl: keys, exact numbers, torn lines, attempts.
#include "trainer/observe/metrics.h"

#include <cmath>
#include <limits>
#include <random>

#include <nlohmann/json.hpp>

#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

StepReport ReportOf(int64_t step, double loss) {
  StepReport report;
  report.step = step;
  report.tokens = step * 100;
  report.loss = loss;
  return report;
}

TEST(Metrics, LineHasExactlyTheKeysOfTheContract) {
  StepReport report = ReportOf(7, 0.1);
  report.validation_loss["books"] = 2.5;
  report.memory = 123;
  const std::string line = RenderMetricsLine({"00112233445566aa", 2, report});
  EXPECT_EQ(
      line,
      R"({"run_id":"00112233445566aa","attempt":2,"step":7,"tokens":700,"loss":0.1,"grad_norm":0.0,"lr":0.0,)"
      R"("max_logit":0.0,"max_attention_lse":0.0,"validation_loss":{"books":2.5},"tokens_per_second":0.0,"mfu":null,"memory":123,"data_wait_ms":0.0,)"
      R"("comm_wait_ms":0.0,"seconds":0.0})");
}

TEST(Metrics, TasksAndSourcesHaveKeysWhereThereAreSome) {
  StepReport report = ReportOf(7, 0.1);
  report.task_accuracy = {{"copy", 0.95}, {"mqar", 1.0 / 3.0}};
  report.solved_at = {{"copy", 5}};
  report.loss_by_source = {{"a", 2.5}, {"b", std::numeric_limits<double>::quiet_NaN()}};
  const std::string line = RenderMetricsLine({"00112233445566aa", 2, report});
  EXPECT_NE(line.find(R"("validation_loss":{},"task_accuracy":{"copy":0.95,"mqar":0.3333333333333333},)"
                      R"("solved_at":{"copy":5},"loss_by_source":{"a":2.5,"b":null},"tokens_per_second")"),
            std::string::npos)
      << line;
  const StepReport got = ParseMetricsLine(line).value().report;
  EXPECT_EQ(got.task_accuracy, report.task_accuracy);
  EXPECT_EQ(got.solved_at, report.solved_at);
  EXPECT_EQ(got.loss_by_source.at("a"), 2.5);
  EXPECT_TRUE(std::isnan(got.loss_by_source.at("b")));
}

TEST(Metrics, NumbersRoundTripInBits) {
  const ScratchFolder scratch;
  const std::string path = scratch / "metrics.jsonl";
  std::mt19937_64 random(5);
  std::vector<StepReport> reports;
  {
    MetricsWriter writer(path, "00112233445566aa", 1);
    for (int64_t step = 1; step <= 200; ++step) {
      StepReport report = ReportOf(step, std::ldexp(static_cast<double>(random()), -static_cast<int>(random() % 128)));
      report.grad_norm = static_cast<double>(static_cast<float>(random()) / 3.0F);
      report.lr = 3e-4 / static_cast<double>(step);
      report.validation_loss = {{"a", 1.0 / static_cast<double>(step)}, {"b", std::nextafter(2.0, 3.0)}};
      report.mfu = 0.1 * static_cast<double>(step);
      report.loss_terms = {{"kl", 1.0 / 3.0}, {"lm", 0.1 * static_cast<double>(step)}};
      report.max_logit = report.grad_norm / 3.0;
      report.max_attention_lse = -report.grad_norm / 7.0;
      writer.Write(report);
      reports.push_back(report);
    }
  }
  const std::vector<MetricsLine> lines = ReadMetrics(path);
  ASSERT_EQ(lines.size(), reports.size());
  for (size_t i = 0; i < lines.size(); ++i) {
    const StepReport& got = lines[i].report;
    EXPECT_EQ(got.step, reports[i].step);
    EXPECT_EQ(got.tokens, reports[i].tokens);
    EXPECT_EQ(got.loss, reports[i].loss);
    EXPECT_EQ(got.grad_norm, reports[i].grad_norm);
    EXPECT_EQ(got.lr, reports[i].lr);
    EXPECT_EQ(got.validation_loss, reports[i].validation_loss);
    EXPECT_EQ(got.mfu, reports[i].mfu);
    EXPECT_EQ(got.loss_terms, reports[i].loss_terms);
    EXPECT_EQ(got.max_logit, reports[i].max_logit);
    EXPECT_EQ(got.max_attention_lse, reports[i].max_attention_lse);
  }
}

TEST(Metrics, NonFiniteNumbersAreNullAndComeBackAsNan) {
  const ScratchFolder scratch;
  MetricsWriter writer(scratch / "m", "00112233445566aa", 1);
  writer.Write(ReportOf(1, std::numeric_limits<double>::infinity()));
  EXPECT_NE(Slurp(scratch / "m").find(R"("loss":null)"), std::string::npos);
  EXPECT_TRUE(std::isnan(ReadMetrics(scratch / "m").at(0).report.loss));
}

TEST(Metrics, ALineIsInTheFileWhenWriteReturns) {
  const ScratchFolder scratch;
  MetricsWriter writer(scratch / "m", "00112233445566aa", 1);
  writer.Write(ReportOf(1, 1));
  const std::string text = Slurp(scratch / "m");
  EXPECT_EQ(text.back(), '\n');
  EXPECT_EQ(ReadMetrics(scratch / "m").size(), 1U);
}

TEST(Metrics, TornLineIsEndedAndSkipped) {
  const ScratchFolder scratch;
  const std::string path = scratch / "m";
  {
    MetricsWriter writer(path, "00112233445566aa", 1);
    for (int64_t step = 1; step <= 3; ++step) {
      writer.Write(ReportOf(step, static_cast<double>(step)));
    }
  }
  const std::string whole = Slurp(path);
  const size_t third = whole.rfind('\n', whole.size() - 2) + 1;
  for (size_t cut = third; cut < whole.size(); ++cut) {
    Spill(path, whole.substr(0, cut));
    {
      MetricsWriter writer(path, "00112233445566aa", 2);
      writer.Write(ReportOf(4, 4));
    }
    const std::vector<MetricsLine> lines = ReadMetrics(path);
    // The third line counts only when nothing but its newline was lost.
    ASSERT_EQ(lines.size(), cut + 1 == whole.size() ? 4U : 3U) << cut;
    EXPECT_EQ(lines.back().report.step, 4);
    const std::string text = Slurp(path);
    EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), cut == third ? 3 : 4) << cut;
  }
}

TEST(Metrics, TheLastAttemptOfAStepCounts) {
  const ScratchFolder scratch;
  const std::string path = scratch / "m";
  for (int64_t attempt = 1; attempt <= 2; ++attempt) {
    MetricsWriter writer(path, "00112233445566aa", attempt);
    for (int64_t step = attempt; step <= 4; ++step) {
      writer.Write(ReportOf(step, static_cast<double>(10 * attempt + step)));
    }
  }
  Spill(path, Slurp(path) + "garbage\n[]\n{}\n\n{\"step\": 3}\n");
  const std::vector<MetricsLine> lines = ReadMetrics(path);
  ASSERT_EQ(lines.size(), 4U);
  EXPECT_EQ(lines[0].report.loss, 11);
  EXPECT_EQ(lines[1].report.loss, 22);
  EXPECT_EQ(lines[3].attempt, 2);
}

TEST(Metrics, ErrorsHaveTheirCodes) {
  const ScratchFolder scratch;
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(ReadMetrics(scratch / "none")); }).code(), ExitCode::kMissingInput);
  EXPECT_EQ(ErrorOf([&] { MetricsWriter(scratch / "none/m", "", 1); }).code(), ExitCode::kCannotCreate);
}

}  // namespace
}  // namespace ksa::testing
