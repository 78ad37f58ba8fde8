// Every golden file on the CPU, and that a file which is off fails.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>

#include <fmt/core.h>
#include <gtest/gtest.h>

#include "data/files/hdf5_handle.h"
#include "tests/golden/golden_folder.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

TEST(GoldenTest, Files) {
  GuardAllocator memory;
  ExpectFilesPass({{}, &memory});
}

TEST(ReportTest, TwiceIsOfATensorsOwnErrorOrTheTypicalOne) {
  Report plain;
  plain.Compare("gradients", "lucky", {1.0}, {1.0}, 0.0);
  plain.Compare("gradients", "off", {1.0, 1.75}, {1.0, 2.0}, 0.0);
  const double typical = 0.125 / std::sqrt(2.0);
  EXPECT_DOUBLE_EQ(plain.Twice("gradients", "off", 0.5), 2.0 * 0.125 + 0.5);
  EXPECT_DOUBLE_EQ(plain.Twice("gradients", "lucky", 0.5), 2.0 * typical + 0.5);
  EXPECT_EQ(plain.Twice("gradients", "unknown", 0.5), 0.5);
  EXPECT_EQ(plain.Twice("logits", "", 0.5), 0.5);
  plain.Compare("gradients", "broken", {std::nan("")}, {1.0}, 0.0);
  EXPECT_EQ(plain.Twice("gradients", "off", 0.5), 0.5) << "a reference that is not finite allows nothing";
}

// The measure of a GPU's error in the twelve updates of a training file.
class DrawsTest : public ::testing::TestWithParam<DType> {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(kFile)) {
      GTEST_SKIP() << "there is no " << kFile;
    }
  }

  static void Run(int draw, const Report* plain, Report& report) {
    GuardAllocator memory;
    RunTrainFile(
        H5Reader(kFile), 2, {.place = {{}, &memory}, .dtype = GetParam(), .plain = plain, .draw = draw}, report);
  }

  static constexpr const char* kFile = "tests/golden/train_wsd.h5";
};

// Draws that rounded alike would be one run, whose error may be small by luck.
TEST_P(DrawsTest, RoundDifferently) {
  std::set<std::string> texts;
  for (int draw = 0; draw < 4; ++draw) {
    Report report;
    Run(draw, nullptr, report);
    texts.insert(report.Text());
  }
  EXPECT_EQ(texts.size(), 4U);
}

// What a GPU does is to round otherwise, too.
TEST_P(DrawsTest, OtherDrawsPass) {
  Report plain;
  for (int draw = 0; draw < kDraws; ++draw) {
    Run(draw, nullptr, plain);
  }
  for (int draw = kDraws; draw < kDraws + 4; ++draw) {
    Report report;
    Run(draw, &plain, report);
    EXPECT_TRUE(report.passed()) << "draw " << draw << ": " << report.Text();
  }
}

INSTANTIATE_TEST_SUITE_P(Types, DrawsTest, ::testing::Values(DType::kF32, DType::kBF16), [](const auto& type) {
  return std::string(NameOf(type.param));
});

// The comparison itself must be able to fail: copies of the repository's files with one thing changed.
class GoldenFailureTest : public ::testing::Test {
 protected:
  void SetUp() override {
    PrepareHdf5();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
    for (const char* name :
         {"ksa_k4_m2_w1_gqa.h5", "hybrid_bypass_k4.h5", "attention.h5", "train_wsd.h5", "distill.h5"}) {
      if (!fs::exists(fs::path("tests/golden") / name)) {
        GTEST_SKIP() << "tests/golden does not hold " << name;
      }
    }
  }

  void TearDown() override { fs::remove_all(folder_); }

  static FileResult RunOnCpu(const std::string& path) {
    GuardAllocator memory;
    return RunGoldenFile(path, {{}, &memory});
  }

  std::string CopyOf(const std::string& name) {
    const fs::path copy = folder_ / "copy.h5";
    fs::copy_file(fs::path("tests/golden") / name, copy, fs::copy_options::overwrite_existing);
    return copy.string();
  }

  // The verdict on a copy of `name` in which the largest element of a dataset is multiplied by `factor`.
  Verdict WithScaledElement(const std::string& name, const std::string& dataset, double factor) {
    const std::string path = CopyOf(name);
    const Hdf5Context context = {path, ExitCode::kInternal};
    std::vector<double> values = H5Reader(path).Values(dataset);
    auto largest =
        std::max_element(values.begin(), values.end(), [](double a, double b) { return std::abs(a) < std::abs(b); });
    *largest *= factor;
    {
      const Hdf5Handle file(context, H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose, "opening");
      const Hdf5Handle set(context, H5Dopen2(file.id(), dataset.c_str(), H5P_DEFAULT), H5Dclose, "opening");
      context.Check(H5Dwrite(set.id(), H5T_NATIVE_DOUBLE, H5S_ALL, H5S_ALL, H5P_DEFAULT, values.data()), "writing");
    }
    return RunOnCpu(path).verdict;
  }

  Verdict WithoutLink(const std::string& name, const std::string& link) {
    const std::string path = CopyOf(name);
    const Hdf5Context context = {path, ExitCode::kInternal};
    {
      const Hdf5Handle file(context, H5Fopen(path.c_str(), H5F_ACC_RDWR, H5P_DEFAULT), H5Fclose, "opening");
      context.Check(H5Ldelete(file.id(), link.c_str(), H5P_DEFAULT), "unlinking");
    }
    return RunOnCpu(path).verdict;
  }

  fs::path folder_ = fs::path(::testing::TempDir()) / fmt::format("ksa_golden_{}", ::getpid());
};

TEST_F(GoldenFailureTest, AnUntouchedCopyPasses) {
  EXPECT_EQ(RunOnCpu(CopyOf("ksa_k4_m2_w1_gqa.h5")).verdict, Verdict::kPass);
  EXPECT_EQ(WithScaledElement("ksa_k4_m2_w1_gqa.h5", "/output/logits", 1.0 + 1e-13), Verdict::kPass);
}

TEST_F(GoldenFailureTest, AnyQuantityThatIsOff) {
  for (const char* dataset : {"/output/logits",
                              "/output/loss",
                              "/output/token_loss",
                              "/output/embedding/summary",
                              "/output/hidden/0/summary",
                              "/output/hidden/2/text",
                              "/grad/summary_embedding.weight",
                              "/grad/model.layers.1.self_attn.q_norm_summary.weight",
                              "/weights/model.norm.weight"}) {
    EXPECT_EQ(WithScaledElement("ksa_k4_m2_w1_gqa.h5", dataset, 1.0 + 1e-9), Verdict::kFail) << dataset;
  }
  EXPECT_EQ(WithScaledElement("ksa_k4_m2_w1_gqa.h5", "/output/positions_summary", 2.0), Verdict::kFail);
  EXPECT_EQ(WithScaledElement("ksa_k4_m2_w1_gqa.h5", "/output/visible", 0.0), Verdict::kFail);
  EXPECT_EQ(WithScaledElement("hybrid_bypass_k4.h5", "/output/visible_full", 0.0), Verdict::kFail);
}

TEST_F(GoldenFailureTest, AttentionAndTraining) {
  for (const char* dataset : {"out", "lse", "dq", "dk", "dv"}) {
    EXPECT_EQ(WithScaledElement("attention.h5", std::string("/gqa_k4_m2_w1/") + dataset, 1.0 + 1e-9), Verdict::kFail)
        << dataset;
  }
  for (const char* dataset : {"/output/loss",
                              "/output/grad_norm",
                              "/output/learning_rate",
                              "/final/weights/model.norm.weight",
                              "/final/exp_avg/lm_head.weight",
                              "/final/exp_avg_sq/lm_head.weight"}) {
    EXPECT_EQ(WithScaledElement("train_wsd.h5", dataset, 1.0 + 1e-8), Verdict::kFail) << dataset;
  }
}

TEST_F(GoldenFailureTest, FilesThatMissSomething) {
  EXPECT_EQ(WithoutLink("ksa_k4_m2_w1_gqa.h5", "/weights/model.norm.weight"), Verdict::kFail);
  EXPECT_EQ(WithoutLink("ksa_k4_m2_w1_gqa.h5", "/grad/model.norm.weight"), Verdict::kFail);
  EXPECT_EQ(WithoutLink("ksa_k4_m2_w1_gqa.h5", "/output/logits"), Verdict::kFail);
}

TEST_F(GoldenFailureTest, FoldersAndFilesThatAreNone) {
  GuardAllocator memory;
  const Place cpu = {{}, &memory};
  EXPECT_EQ(RunFolder(folder_ / "missing", cpu).size(), 0U);
  EXPECT_EQ(RunFolder(folder_, cpu).size(), 0U);
  std::ofstream(folder_ / "text.h5") << "not HDF5";
  std::ofstream(folder_ / "notes.txt") << "no golden file";
  fs::copy_file("tests/golden/ksa_k4_m2_w1_gqa.h5", folder_ / "a name.h5");
  const FolderResult result = RunFolder(folder_, cpu);
  EXPECT_EQ(result.failed, std::vector<std::string>({"text.h5"}));
  EXPECT_TRUE(result.skipped.empty());
  EXPECT_EQ(result.size(), 2U);
}

}  // namespace
}  // namespace ksa::testing
