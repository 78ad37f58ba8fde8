// What the progress bar shows at which width.
#include "trainer/observe/bar.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "data/tools/terminal_line.h"

namespace ksa {
namespace {

StepReport ExampleReport() {
  StepReport report;
  report.step = 120;
  report.max_steps = 5000;
  report.loss = 5.43214;
  report.tokens_per_second = 10085.0;
  report.eta_seconds = 3964;
  return report;
}

TEST(ProgressBar, FillsAndFits) {
  StepReport report = ExampleReport();
  const std::string text = "  2% | step 120/5000 | loss 5.4321 | 10.1K tok/s | eta 1h06m";
  EXPECT_EQ(FormatProgressBar(report, {}, 200), "[" + std::string(40, '.') + "] " + text);
  report.step = 2500;
  EXPECT_EQ(FormatProgressBar(report, {}, 200).substr(0, 42), "[" + std::string(20, '#') + std::string(20, '.') + "]");
  const std::vector<ValidationResult> validation = {{.name = "caf\xc3\xa9", .loss = 1}, {.name = "wiki", .loss = 2}};
  for (int width = -1; width < 130; ++width) {
    EXPECT_LE(ColumnsOf(FormatProgressBar(report, validation, width)), static_cast<size_t>(std::max(0, width)));
  }
}

TEST(ProgressBar, ShowsTheLastValidation) {
  EXPECT_EQ(FormatProgressBar(ExampleReport(), {{.name = "books", .loss = 1.98764}}, 79),
            "  2% | step 120/5000 | loss 5.4321 | val 1.9876 | 10.1K tok/s | eta 1h06m");
  EXPECT_EQ(FormatProgressBar(ExampleReport(), {{.name = "books", .loss = 1.98764}, {.name = "wiki", .loss = 2}}, 92),
            "  2% | step 120/5000 | loss 5.4321 | val books 1.9876, wiki 2.0000 | 10.1K tok/s | eta 1h06m");
}

TEST(ProgressBar, LeavesOutWholeParts) {
  const std::vector<ValidationResult> validation = {{.name = "books", .loss = 1.98764}};
  const std::string all = "  2% | step 120/5000 | loss 5.4321 | val 1.9876 | 10.1K tok/s | eta 1h06m";
  const std::string no_speed = "  2% | step 120/5000 | loss 5.4321 | val 1.9876 | eta 1h06m";
  const std::string no_validation = "  2% | step 120/5000 | loss 5.4321 | eta 1h06m";
  const std::string no_eta = "  2% | step 120/5000 | loss 5.4321";
  const std::string no_step = "  2% | loss 5.4321";
  // A bar takes the room that is left, from 8 cells on.
  const std::vector<std::pair<int, std::string>> expected = {{84, "[........] " + all},
                                                             {83, all},
                                                             {73, all},
                                                             {72, "[..........] " + no_speed},
                                                             {69, no_speed},
                                                             {59, no_speed},
                                                             {58, "[.........] " + no_validation},
                                                             {46, no_validation},
                                                             {45, "[........] " + no_eta},
                                                             {34, no_eta},
                                                             {33, "[............] " + no_step},
                                                             {18, no_step},
                                                             {17, "[..........]   2%"},
                                                             {14, "  2%"},
                                                             {3, "  2"},
                                                             {0, ""}};
  for (const auto& [width, text] : expected) {
    EXPECT_EQ(FormatProgressBar(ExampleReport(), validation, width), text) << width;
  }
}

TEST(ProgressBar, DoesNotInventATiming) {
  StepReport report = ExampleReport();
  report.tokens_per_second = 0;
  EXPECT_EQ(FormatProgressBar(report, {}, 36), "  2% | step 120/5000 | loss 5.4321");
}

}  // namespace
}  // namespace ksa
