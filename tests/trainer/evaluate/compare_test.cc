// Runs side by side: equal ones, and each way to differ.
#include "trainer/evaluate/compare.h"

#include <cmath>
#include <stdexcept>

#include "kernels/core/host_allocator.h"
#include "tests/trainer/checkpoint/support.h"
#include "trainer/observe/metrics.h"

namespace ksa::testing {
namespace {

StepReport ReportOf(int64_t step) {
  StepReport report;
  report.step = step;
  report.tokens = step * 512;
  report.loss = 5.0 / static_cast<double>(step);
  report.grad_norm = 1.0;
  report.lr = 1e-3;
  if (step % 2 == 0) {
    report.validation_loss["v"] = 3.0;
  }
  return report;
}

// Updates 1..5, each changed by `edit`.
void WriteRun(const std::string& path, const std::function<void(StepReport&)>& edit = {}, int64_t last = 5) {
  std::filesystem::create_directories(path);
  MetricsWriter writer(path + "/metrics.jsonl", "00112233445566aa", 1);
  for (int64_t step = 1; step <= last; ++step) {
    StepReport report = ReportOf(step);
    if (edit) {
      edit(report);
    }
    writer.Write(report);
  }
}

class Compare : public ::testing::Test {
 protected:
  void SetUp() override { WriteRun(scratch_ / "a"); }

  RunDifference Against(const std::string& name, const CompareRule& rule = {}) {
    return CompareRuns(OpenComparedRun(scratch_ / "a"), OpenComparedRun(scratch_ / name), rule);
  }

  static const QuantityDifference& Find(const RunDifference& difference, const std::string& quantity) {
    for (const QuantityDifference& found : difference.quantities) {
      if (found.quantity == quantity) {
        return found;
      }
    }
    throw std::runtime_error("no " + quantity);
  }

  ScratchFolder scratch_;
};

TEST_F(Compare, EqualRuns) {
  // Speed, memory and times are no part of it.
  WriteRun(scratch_ / "b", [](StepReport& report) {
    report.tokens_per_second = 99;
    report.seconds = 7;
  });
  const RunDifference difference = Against("b", {0, true});
  EXPECT_FALSE(difference.differs);
  EXPECT_EQ(difference.common_updates, 5);
  EXPECT_EQ(difference.quantities.size(), 5U);
  EXPECT_FALSE(difference.checkpoint_step);
}

TEST_F(Compare, OneBitOfALossIsADifferenceUnlessTolerated) {
  WriteRun(scratch_ / "b", [](StepReport& report) {
    if (report.step >= 3) {
      report.loss = std::nextafter(report.loss, 9.0);
    }
  });
  const RunDifference difference = Against("b");
  EXPECT_TRUE(difference.differs);
  EXPECT_EQ(Find(difference, "loss").first_different, 3);
  EXPECT_EQ(Find(difference, "loss").a, 5.0 / 3);
  EXPECT_EQ(Find(difference, "loss").b, std::nextafter(5.0 / 3, 9.0));
  EXPECT_FALSE(Find(difference, "grad_norm").first_different);
  EXPECT_FALSE(Against("b", {1e-12, false}).differs);
}

TEST_F(Compare, ToleranceIsRelative) {
  WriteRun(scratch_ / "b", [](StepReport& report) { report.grad_norm = 1.001; });
  EXPECT_FALSE(Against("b", {1e-3, false}).differs);
  EXPECT_TRUE(Against("b", {0.9e-3, false}).differs);
  EXPECT_NEAR(Find(Against("b"), "grad_norm").largest_relative, 0.001 / 1.001, 1e-12);
}

TEST_F(Compare, EachQuantityCounts) {
  const std::vector<std::pair<std::string, std::function<void(StepReport&)>>> edits{
      {"tokens", [](StepReport& report) { ++report.tokens; }},
      {"lr", [](StepReport& report) { report.lr *= 2; }},
      {"validation_loss/v",
       [](StepReport& report) {
         if (report.step == 4) {
           report.validation_loss["v"] = 4.0;
         }
       }},
      {"loss", [](StepReport& report) { report.loss = std::nan(""); }}};
  for (size_t i = 0; i < edits.size(); ++i) {
    const std::string name = "b" + std::to_string(i);
    WriteRun(scratch_ / name, edits[i].second);
    const RunDifference difference = Against(name, {0.1, false});
    EXPECT_TRUE(difference.differs) << edits[i].first;
    EXPECT_TRUE(Find(difference, edits[i].first).first_different) << edits[i].first;
  }
}

// A stop at update 3 validates there; the run that went on did not.
TEST_F(Compare, ValidationOfOneRunAloneIsNoDifferenceUnderTolerance) {
  WriteRun(scratch_ / "b", [](StepReport& report) {
    if (report.step == 3) {
      report.validation_loss["v"] = 5.476;
    }
  });
  const RunDifference tolerated = Against("b", {1e-6, false});
  EXPECT_FALSE(tolerated.differs);
  EXPECT_EQ(Find(tolerated, "validation_loss/v").largest_relative, 0);
  EXPECT_EQ(Find(tolerated, "validation_loss/v").only_in_a, 0);
  EXPECT_EQ(Find(tolerated, "validation_loss/v").only_in_b, 1);
  for (const bool strict : {false, true}) {
    const RunDifference exact = Against("b", {0, strict});
    EXPECT_TRUE(exact.differs);
    const QuantityDifference validation = Find(exact, "validation_loss/v");
    EXPECT_EQ(validation.first_different, 3);
    EXPECT_EQ(validation.a, std::nullopt);
    EXPECT_EQ(validation.b, 5.476);
    EXPECT_EQ(validation.only_in_b, 1);
  }
}

// What both have is compared all the same.
TEST_F(Compare, ValidationOfBothRunsIsComparedUnderTolerance) {
  WriteRun(scratch_ / "b", [](StepReport& report) { report.validation_loss["v"] = report.step == 4 ? 3.1 : 3.0; });
  const RunDifference difference = Against("b", {1e-2, false});
  EXPECT_TRUE(difference.differs);
  EXPECT_EQ(Find(difference, "validation_loss/v").first_different, 4);
  EXPECT_EQ(Find(difference, "validation_loss/v").only_in_b, 3);
  EXPECT_FALSE(Against("b", {0.1, false}).differs);
}

TEST_F(Compare, SourcesOfOneRunAloneAreDifferentInBits) {
  WriteRun(scratch_ / "b", [](StepReport& report) { report.validation_loss.clear(); });
  WriteRun(scratch_ / "c", [](StepReport& report) { report.validation_loss["w"] = 1; });
  EXPECT_EQ(Find(Against("b"), "validation_loss/v").first_different, 2);
  EXPECT_EQ(Find(Against("c"), "validation_loss/w").first_different, 1);
  EXPECT_EQ(Find(Against("b", {0.1, false}), "validation_loss/v").only_in_a, 2);
  EXPECT_EQ(Find(Against("c", {0.1, false}), "validation_loss/w").only_in_b, 5);
}

TEST_F(Compare, MissingUpdatesCountWhenStrict) {
  WriteRun(scratch_ / "b", {}, 4);
  EXPECT_FALSE(Against("b").differs);
  EXPECT_EQ(Against("b").only_in_a, 1);
  EXPECT_TRUE(Against("b", {0, true}).differs);
}

TEST_F(Compare, WeightsOfTheNewestCommonStep) {
  WriteRun(scratch_ / "b");
  SaveSmall(scratch_ / "a/checkpoints", 2);
  SaveSmall(scratch_ / "a/checkpoints", 4);
  SaveSmall(scratch_ / "a/checkpoints", 5);
  HostAllocator allocator;
  ParameterStore store(SmallSpecs(), DType::kF32, allocator);
  FillState(store);
  const auto self = MakeSelfCommunicator();
  const SaveOptions options{scratch_ / "b/checkpoints", 9, {}};
  SaveCheckpoint(store, *self, MetaOf(4), options);
  EXPECT_FALSE(Against("b", {0, true}).differs);
  EXPECT_EQ(Against("b").checkpoint_step, 4);
  EXPECT_EQ(Against("b").compared_tensors, 4);

  // A moment counts when strict.
  SetAt(store.exp_avg(), store.parameters()[1].offset, 7.0);
  SaveCheckpoint(store, *self, MetaOf(4), options);
  EXPECT_FALSE(Against("b").differs);
  EXPECT_TRUE(Against("b", {0, true}).differs);

  // One element of one weight: 1 in the last place of fp32.
  const int64_t index = store.parameters()[0].offset + 3;
  store.master().As<float>()[index] = std::nextafter(store.master().As<float>()[index], 9.0F);
  SaveCheckpoint(store, *self, MetaOf(4), options);
  const RunDifference difference = Against("b");
  EXPECT_TRUE(difference.differs);
  ASSERT_EQ(difference.tensors.size(), 1U);
  EXPECT_EQ(difference.tensors[0].name, "weights/embed.weight");
  EXPECT_EQ(difference.tensors[0].different_elements, 1);
  EXPECT_FALSE(Against("b", {1e-6, false}).differs);
  EXPECT_TRUE(Against("b", {1e-9, false}).differs);
}

TEST_F(Compare, MissingRuns) {
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenComparedRun(scratch_ / "none")); }).code(), ExitCode::kMissingInput);
  std::filesystem::create_directories(scratch_ / "empty");
  EXPECT_EQ(ErrorOf([&] { static_cast<void>(OpenComparedRun(scratch_ / "empty")); }).code(), ExitCode::kMissingInput);
}

}  // namespace
}  // namespace ksa::testing
