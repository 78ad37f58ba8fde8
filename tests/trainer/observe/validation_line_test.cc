// The rows of a validation, by hand.
#include "trainer/observe/validation_line.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace ksa {
namespace {

TEST(ValidationLine, OneSource) {
  const std::vector<ValidationResult> results = {
      {.name = "books", .loss = 1.98764, .standard_error = 0.01234, .samples_read = 256, .samples_there = 4031}};
  EXPECT_EQ(FormatValidation(results, 250, 2000),
            std::vector<std::string>{"validation    250/2000 | books 1.9876 +- 0.0123 nats a token | 2.868 bits | "
                                     "perplexity 7.30 | 256 of 4031 samples"});
}

TEST(ValidationLine, SeveralSourcesStandInColumns) {
  const std::vector<ValidationResult> results = {
      {.name = "a", .loss = 3.0, .standard_error = {}, .samples_read = 1, .samples_there = 1},
      {.name = "code", .loss = 0.5, .standard_error = 0.25, .samples_read = 2, .samples_there = 2}};
  EXPECT_EQ(FormatValidation(results, 7, 8),
            (std::vector<std::string>{
                "validation      7/8 | a    3.0000 nats a token | 4.328 bits | perplexity 20.1 | 1 of 1 samples",
                "validation      7/8 | code 0.5000 +- 0.2500 nats a token | 0.721 bits | perplexity 1.65 | 2 of 2 "
                "samples"}));
  EXPECT_TRUE(FormatValidation({}, 7, 8).empty());
}

TEST(ValidationLine, Tasks) {
  const std::vector<TaskResult> results = {
      {.name = "recall_stream", .accuracy = 0.93124, .answers = 8160, .samples = 256, .solved_at = 200},
      {.name = "mqar", .accuracy = 0.25, .answers = 64, .samples = 4, .solved_at = {}}};
  EXPECT_EQ(FormatTasks(results, 250, 5000),
            (std::vector<std::string>{
                "task          250/5000 | recall_stream 0.9312 of 8160 answers in 256 samples | solved at 200",
                "task          250/5000 | mqar          0.2500 of 64 answers in 4 samples"}));
}

TEST(ValidationLine, Perplexities) {
  EXPECT_EQ(FormatPerplexity(0.0), "1.00");
  EXPECT_EQ(FormatPerplexity(std::log(12.34)), "12.3");
  EXPECT_EQ(FormatPerplexity(std::log(257.0)), "257");
  EXPECT_EQ(FormatPerplexity(std::log(50304.0)), "50304");
  EXPECT_EQ(FormatPerplexity(std::log(1234567.0)), "1.23e+06");
  EXPECT_EQ(FormatPerplexity(std::numeric_limits<double>::quiet_NaN()), "nan");
}

}  // namespace
}  // namespace ksa
