// What metrics.jsonl says of a whole run.
#include "trainer/observe/run_history.h"

#include <cmath>

#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/metrics.h"

namespace ksa::testing {
namespace {

std::string Row(int64_t attempt, int64_t step, double seconds, std::map<std::string, double> validation = {}) {
  StepReport report;
  report.step = step;
  report.loss = static_cast<double>(step) / 2;
  report.seconds = seconds;
  report.validation_loss = std::move(validation);
  return RenderMetricsLine({"0123456789abcdef", attempt, report}) + "\n";
}

TEST(RunHistory, TimesOfAllStartsAndTheBestValidation) {
  const ScratchFolder scratch;
  Spill(scratch / "metrics.jsonl",
        Row(1, 1, 1.0) + Row(1, 2, 2.0, {{"a", 3.0}, {"b", 1.0}}) + Row(1, 3, 3.5) + "{\"torn\n" + Row(2, 3, 1.25) +
            Row(2, 4, 2.25, {{"a", 2.0}, {"b", 4.0}}) + Row(2, 6, 4.0, {{"a", 2.0}}));
  const RunHistory history = ReadHistory(scratch / "metrics.jsonl");
  EXPECT_EQ(history.starts, 2);
  EXPECT_EQ(history.seconds, 3.5 + 4.0);
  ASSERT_TRUE(history.last.has_value());
  EXPECT_EQ(history.last->step, 6);
  EXPECT_EQ(history.last->loss, 3.0);
  ASSERT_EQ(history.validation.size(), 2U);
  EXPECT_EQ(history.validation.at("a").best.step, 4);  // the first of equals
  EXPECT_EQ(history.validation.at("a").best.loss, 2.0);
  EXPECT_EQ(history.validation.at("a").last.step, 6);
  EXPECT_EQ(history.validation.at("b").best.step, 2);
  EXPECT_EQ(history.validation.at("b").last.step, 4);
  EXPECT_EQ(history.validation.at("b").last.loss, 4.0);
}

TEST(RunHistory, TheLastStartsRowCounts) {
  const ScratchFolder scratch;
  Spill(scratch / "metrics.jsonl",
        Row(1, 2, 2.0, {{"a", 1.0}}) + Row(2, 2, 9.0, {{"a", 5.0}}) + "{\"run_id\":\"0\",\"att");
  const RunHistory history = ReadHistory(scratch / "metrics.jsonl");
  EXPECT_EQ(history.validation.at("a").best.loss, 5.0);
  EXPECT_EQ(history.seconds, 11.0);
}

// JSON has no numbers that are not finite: they come back as NaN, which is never the best.
TEST(RunHistory, ALossThatIsNotFinite) {
  const ScratchFolder scratch;
  Spill(scratch / "metrics.jsonl", Row(1, 1, 1.0, {{"a", std::nan("")}}) + Row(1, 2, 2.0, {{"a", 7.0}}));
  EXPECT_EQ(ReadHistory(scratch / "metrics.jsonl").validation.at("a").best.step, 2);
}

TEST(RunHistory, NothingYet) {
  const ScratchFolder scratch;
  Spill(scratch / "metrics.jsonl", "");
  const RunHistory history = ReadHistory(scratch / "metrics.jsonl");
  EXPECT_EQ(history.starts, 0);
  EXPECT_FALSE(history.last.has_value());
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(ReadHistory(scratch / "none")); }).code(), ExitCode::kMissingInput);
}

}  // namespace
}  // namespace ksa::testing
