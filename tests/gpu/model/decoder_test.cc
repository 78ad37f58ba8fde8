// Decoding with caches on the GPU against whole passes there and on the CPU.
#include "model/ksa/decoder.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include <fmt/core.h>

#include "tests/gpu/support.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa::testing {
namespace {

constexpr int32_t kTokens = 26;

using Logits = std::vector<std::vector<double>>;  // by token

class GpuDecoderTest : public GpuTest {
 protected:
  [[nodiscard]] static Logits Whole(const ExecContext& cx,
                                    ModelHarness& harness,
                                    const ModelCase& c,
                                    std::vector<int32_t> ids) {
    const Var hidden = harness.model().Hidden(
        cx, {.ids = UploadNumbers(cx, ids, {kTokens}), .layout = MakeLayout(c.config, 1, kTokens), .mix = c.mix});
    Logits logits;
    for (int32_t i = 0; i < kTokens; ++i) {
      logits.push_back(ValuesOf(harness.model().Logits(cx, hidden.value.Rows(i, 1)), cx.stream));
    }
    return logits;
  }

  // Two sequences, the text and the text from its token 1 on, whose beginnings have other lengths. Of the first.
  [[nodiscard]] static Logits Decoded(const ExecContext& cx,
                                      ModelHarness& harness,
                                      const ModelCase& c,
                                      const std::vector<int32_t>& ids,
                                      int32_t begin) {
    Decoder decoder(cx, harness.model(), {.sequences = 2, .tokens = kTokens}, c.mix);
    const auto logits_of = [&](const Tensor& hidden) {
      return ValuesOf(harness.model().Logits(cx, hidden.Rows(0, 1)), cx.stream);
    };
    Logits logits(static_cast<size_t>(begin) - 1);
    logits.push_back(logits_of(decoder.Prefill(0, std::span(ids).first(static_cast<size_t>(begin)))));
    static_cast<void>(decoder.Prefill(1, std::span(ids).subspan(1, 2)));
    for (int32_t i = begin; i < kTokens; ++i) {
      std::vector<Decoder::Next> next = {{0, ids[static_cast<size_t>(i)]}};
      if (decoder.Length(1) + 1 < kTokens - 1) {
        next.push_back({1, ids[static_cast<size_t>(decoder.Length(1)) + 1]});
      }
      logits.push_back(logits_of(decoder.Step(next)));
    }
    return logits;
  }

  // The largest of all tokens that have logits, relative to the token's largest.
  [[nodiscard]] static double Difference(const Logits& actual, const Logits& expected) {
    double difference = 0.0;
    for (size_t i = 0; i < expected.size(); ++i) {
      difference = actual[i].empty() ? difference : std::max(difference, RelativeDifference(actual[i], expected[i]));
    }
    return difference;
  }

  // Whether the case has caches on a GPU.
  [[nodiscard]] bool ExpectDecodes(ModelCase c, DType dtype) {
    SCOPED_TRACE(fmt::format("{}, {}", c.name, NameOf(dtype)));
    c.sequences = 1;
    c.documents.clear();
    c.tokens = kTokens;
    ModelHarness harness(c, dtype, {stream(), &device()});
    if (!harness.model().WhyNoCaches({.stream = stream(), .allocator = &device()}).empty()) {
      return false;
    }
    ModelHarness exact(c, DType::kF64);
    exact.TakeWeights(harness);
    std::vector<int32_t> ids(harness.ids().As<int32_t>(), harness.ids().As<int32_t>() + kTokens);
    const ExecContext on_gpu = {.stream = stream(), .allocator = &device()};
    const Logits expected = Whole({.allocator = &host()}, exact, c, ids);
    const double whole = Difference(Whole(on_gpu, harness, c, ids), expected);
    for (const int32_t begin : {1, 5, 12}) {
      const double decoded = Difference(Decoded(on_gpu, harness, c, ids, begin), expected);
      // In fp32 the bound of the CPU's test; in bf16 roundings in another order, twice the whole pass's at most.
      const double bound = dtype == DType::kF32 ? 1e-5 : 2.0 * whole + 4.0 * UnitRoundoff(dtype);
      EXPECT_LE(decoded, bound) << "a beginning of " << begin << ", whole " << whole;
    }
    return true;
  }

  // Hidden rows of steps of three sequences that begin at different lengths, the second of which pauses now and then.
  // The last third of the steps is of the first one alone.
  [[nodiscard]] Logits StepsOfABatch(ModelHarness& harness,
                                     const ModelCase& c,
                                     const std::vector<int32_t>& ids,
                                     StepRecording recording) {
    const auto tokens = static_cast<int32_t>(ids.size()) - 3;
    // As in a run: guarded memory is taken from the driver tensor by tensor, too slowly for hundreds of steps.
    GpuSlabs slabs(stream().device.ordinal);
    ArenaAllocator arena(slabs);
    const ExecContext cx = {.stream = stream(), .allocator = &arena};
    Decoder decoder(cx, harness.model(), {.sequences = 3, .tokens = tokens, .recording = recording}, c.mix);
    const std::vector<int32_t> begins = {7, 1, 12};
    for (int32_t s = 0; s < 3; ++s) {
      const auto begin = static_cast<size_t>(begins[static_cast<size_t>(s)]);
      static_cast<void>(decoder.Prefill(s, std::span(ids).subspan(static_cast<size_t>(s), begin)));
    }
    Logits rows;
    for (int32_t round = 0; decoder.Length(0) < tokens; ++round) {
      std::vector<Decoder::Next> next;
      for (const int32_t s : {2, 0, 1}) {
        if (s == 0 || (decoder.Length(0) < 2 * tokens / 3 && (s != 1 || round % 5 < 3))) {
          next.push_back({s, ids[static_cast<size_t>(s + decoder.Length(s))]});
        }
      }
      rows.push_back(ValuesOf(decoder.Step(next), cx.stream));
    }
    return rows;
  }

  // Each step recorded once a kind and launched again, beside each of its operations queued by itself.
  void ExpectRecordsAreEqual(ModelCase c, DType dtype, int32_t tokens) {
    SCOPED_TRACE(fmt::format("{}, {}, {} tokens", c.name, NameOf(dtype), tokens));
    c.sequences = 1;
    c.documents.clear();
    c.tokens = tokens;
    ModelHarness harness(c, dtype, {stream(), &device()});
    if (!harness.model().WhyNoCaches({.stream = stream(), .allocator = &device()}).empty()) {
      return;
    }
    const std::vector<int32_t> ids(harness.ids().As<int32_t>(), harness.ids().As<int32_t>() + tokens);
    const Logits expected = StepsOfABatch(harness, c, ids, StepRecording::kNever);
    const Logits actual = StepsOfABatch(harness, c, ids, StepRecording::kOnGpus);
    ASSERT_EQ(actual.size(), expected.size());
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(actual[i], expected[i]) << "step " << i;
    }
  }
};

TEST_F(GpuDecoderTest, RecordedStepsAreEqualInBits) {
  for (const ModelCase& c : ModelCases()) {
    if (c.config.GpuProblem().empty()) {
      ExpectRecordsAreEqual(c, DType::kBF16, 44);
    }
  }
}

// Over lengths that steps are recorded for.
TEST_F(GpuDecoderTest, RecordedStepsOfLongTexts) {
  for (const char* name : {"hybrid, swa and sca, attend", "hca"}) {
    ExpectRecordsAreEqual(FindCase(name), DType::kF32, 560);
  }
}

TEST_F(GpuDecoderTest, IsAsAccurateAsTheWholePass) {
  int decoded = 0;
  for (const ModelCase& c : ModelCases()) {
    if (c.config.GpuProblem().empty()) {
      for (const DType dtype : {DType::kF32, DType::kBF16}) {
        decoded += ExpectDecodes(c, dtype) ? 1 : 0;
      }
    }
  }
  EXPECT_GE(decoded, 2 * 30);  // ksa, full, swa, sca and hca alike
}

}  // namespace
}  // namespace ksa::testing
