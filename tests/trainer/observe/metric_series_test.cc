#include "trainer/observe/metric_series.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <string>

#include <gtest/gtest.h>

#include "kernels/core/error.h"
#include "trainer/observe/metrics.h"

namespace ksa {
namespace {

std::string Write(const std::string& text) {
  const std::string path = (std::filesystem::path(::testing::TempDir()) / "metric_series.jsonl").string();
  std::ofstream(path) << text;
  return path;
}

// Three starts: the second lost updates 3 and 4 of the first, and did 3 again; the third began with a torn line behind
// it.
TEST(MetricSeries, ColumnsOfTheLastAttemptOfEachUpdate) {
  const MetricSeries series = ReadMetricSeries(
      Write("{\"run_id\":\"r\",\"attempt\":1,\"step\":1,\"loss\":5,\"validation_loss\":{},\"seconds\":10.0}\n"
            "{\"run_id\":\"r\",\"attempt\":1,\"step\":2,\"loss\":4,\"validation_loss\":{\"a\":1.5},\"seconds\":20.0}\n"
            "{\"run_id\":\"r\",\"attempt\":1,\"step\":3,\"loss\":3,\"validation_loss\":{\"a\":9.5},\"seconds\":30.0}\n"
            "{\"run_id\":\"r\",\"attempt\":1,\"step\":4,\"loss\":2,\"seconds\":40.0}\n"
            "{\"run_id\":\"r\",\"attempt\":2,\"step\":3,\"loss\":3.25,\"lr\":1e-3,\"seconds\":5.0}\n"
            "{\"run_id\":\"r\",\"attempt\":2,\"st\n"
            "\n"
            "[{\"step\":1,\"attempt\":7}]\n"
            "{\"run_id\":\"r\",\"step\":7,\"loss\":1}\n"
            "{\"run_id\":\"r\",\"attempt\":3,\"step\":4,\"loss\":null,\"task_accuracy\":{\"q\":0.5,\"lost\":null,"
            "\"deep\":{\"x\":1}},"
            "\"list\":[1,{\"step\":9}],\"seconds\":2.0}"));
  EXPECT_EQ(series.steps, (std::vector<int64_t>{1, 2, 3, 4}));
  EXPECT_EQ(series.elapsed, (std::vector<double>{10, 20, 45, 47}));
  EXPECT_EQ(series.skipped, 3) << "torn, a list, without an attempt; an empty line is nothing";
  const std::vector<double>& loss = *series.Find("loss");
  EXPECT_EQ(loss[2], 3.25);
  EXPECT_TRUE(std::isnan(loss[3]));
  EXPECT_TRUE(std::isnan((*series.Find("lr"))[0]));
  EXPECT_EQ((*series.Find("lr"))[2], 1e-3);
  ASSERT_TRUE(series.Last("validation_loss/a"));
  EXPECT_EQ(series.Last("validation_loss/a")->step, 2) << "update 3 was made again, without a validation";
  EXPECT_EQ(series.Last("validation_loss/a")->value, 1.5);
  EXPECT_EQ(series.Last("task_accuracy/q")->value, 0.5);
  EXPECT_EQ(series.NamesOf("task_accuracy"), (std::vector<std::string>{"lost", "q"}));
  EXPECT_TRUE(std::isinf(series.Last("task_accuracy/lost")->value)) << "measured, and not finite";
  EXPECT_EQ(series.Find("list"), nullptr);
  EXPECT_EQ(series.Find("task_accuracy/x"), nullptr);
  EXPECT_FALSE(series.Last("mfu"));
}

// What the writer writes, whatever keys it has.
TEST(MetricSeries, ReadsWhatTheWriterWrites) {
  MetricsLine line{"r", 2, {}};
  line.report.step = 7;
  line.report.tokens = 123;
  line.report.loss = 0.1;
  line.report.validation_loss = {{"a \"quoted\" name", 2.5}, {"b/c", 3.5}};
  line.report.seconds = 4;
  const MetricSeries series = ReadMetricSeries(Write(RenderMetricsLine(line) + "\n"));
  EXPECT_EQ(series.steps, std::vector<int64_t>{7});
  EXPECT_EQ(series.Last("loss")->value, 0.1);
  EXPECT_EQ(series.Last("tokens")->value, 123);
  EXPECT_EQ(series.NamesOf("validation_loss"), (std::vector<std::string>{"a \"quoted\" name", "b/c"}));
}

TEST(MetricSeries, NothingToRead) {
  EXPECT_TRUE(ReadMetricSeries(Write("")).steps.empty());
  EXPECT_TRUE(ReadMetricSeries(Write("no json\n")).steps.empty());
  EXPECT_EQ(ReadMetricSeries(Write(std::string(5000, '{'))).skipped, 1);
  EXPECT_THROW(static_cast<void>(ReadMetricSeries("no/such/file")), Error);
}

}  // namespace
}  // namespace ksa
