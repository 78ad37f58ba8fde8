#include "trainer/observe/trace.h"

#include <cstdio>
#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>
#include <nlohmann/json.hpp>

#include "trainer/observe/device_peaks.h"

namespace ksa {
namespace {

TEST(ChromeTrace, OperationsNestOnTheHostsRow) {
  ChromeTrace trace;
  const Stream stream = {.tracer = &trace};
  RunOp("outer", stream, {}, NoWork, [&] { RunOp("inner", stream, {}, NoWork, [] {}); });
  RunOp("next", stream, {}, NoWork, [] {});
  const std::string path = (std::filesystem::temp_directory_path() / "ksa_trace_test.json").string();
  trace.Write(path);
  const nlohmann::json events = nlohmann::json::parse(std::ifstream(path))["traceEvents"];
  std::filesystem::remove(path);
  ASSERT_EQ(events.size(), 4);
  EXPECT_EQ(events[0]["args"]["name"], "host");
  const auto begin = [&](size_t i) { return events[i]["ts"].get<double>(); };
  const auto end = [&](size_t i) { return begin(i) + events[i]["dur"].get<double>(); };
  EXPECT_EQ(events[1]["name"], "outer");
  EXPECT_EQ(events[2]["name"], "inner");
  EXPECT_LE(begin(1), begin(2));
  EXPECT_GE(end(1) + 1e-6, end(2));
  EXPECT_EQ(events[3]["name"], "next");
  EXPECT_GE(begin(3) + 1e-6, end(1));
}

TEST(ChromeTrace, AnOperationThatFailsEndsToo) {
  ChromeTrace trace;
  const Stream stream = {.tracer = &trace};
  EXPECT_THROW(RunOp("failing", stream, {}, NoWork, [] { Fail(ExitCode::kInternal, "no"); }), Error);
  RunOp("next", stream, {}, NoWork, [] {});
  EXPECT_THROW(trace.Write("/no/such/folder/trace.json"), Error);
}

TEST(DevicePeaks, AreMatchedExactly) {
  // Dense bf16 with fp32 accumulation, from the makers' data sheets.
  EXPECT_EQ(PeakFlops("NVIDIA H200", DType::kBF16), 989e12);
  EXPECT_EQ(PeakFlops("NVIDIA H100 80GB HBM3", DType::kBF16), 989e12);
  EXPECT_EQ(PeakFlops("NVIDIA H100 PCIe", DType::kBF16), 756e12);
  EXPECT_EQ(PeakFlops("NVIDIA A100-SXM4-80GB", DType::kBF16), 312e12);
  EXPECT_EQ(PeakFlops("NVIDIA B200", DType::kBF16), 2250e12);
  EXPECT_EQ(PeakFlops("NVIDIA L40S", DType::kBF16), 362e12);
  EXPECT_EQ(PeakFlops("NVIDIA GeForce RTX 4090", DType::kBF16), 165.2e12);
  EXPECT_EQ(PeakFlops("NVIDIA H200", DType::kF32), std::nullopt);
  EXPECT_EQ(PeakFlops("NVIDIA H20", DType::kBF16), std::nullopt);
  EXPECT_EQ(PeakFlops("AMD EPYC", DType::kBF16), std::nullopt);
}

}  // namespace
}  // namespace ksa
