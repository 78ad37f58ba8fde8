// Decoding with caches against the whole forward pass: every kind, every edge.
#include "model/ksa/decoder.h"

#include <algorithm>
#include <array>
#include <vector>

#include "model/ksa/cost.h"
#include "model/mixers/swa/swa.h"
#include "parallel/comm/threads.h"
#include "tests/model/ksa/model_cases.h"

namespace ksa {
namespace {

using testing::FindCase;
using testing::ModelCase;
using testing::ModelCases;
using testing::ModelHarness;
using testing::RelativeDifference;
using testing::ToDouble;

// A model of one sequence of `tokens` tokens.
class Decoding {
 public:
  Decoding(ModelCase model_case, DType dtype, int32_t tokens)
      : case_(Lengthened(std::move(model_case), tokens)),
        harness_(case_, dtype),
        cx_{.stream = {.threads = 2}, .allocator = &memory_} {
    for (int32_t i = 0; i < tokens; ++i) {
      ids_.push_back(harness_.ids().As<int32_t>()[i]);
    }
  }

  [[nodiscard]] const ModelConfig& config() const { return case_.config; }

  [[nodiscard]] Decoder Make(int32_t sequences, int32_t tokens, StepRecording recording = StepRecording::kOnGpus) {
    return {cx_, harness_.model(), {.sequences = sequences, .tokens = tokens, .recording = recording}, case_.mix};
  }

  [[nodiscard]] std::span<const int32_t> Ids(int32_t begin, int32_t count) const {
    return std::span(ids_).subspan(static_cast<size_t>(begin), static_cast<size_t>(count));
  }

  [[nodiscard]] int32_t Id(int32_t i) const { return ids_[static_cast<size_t>(i)]; }

  // Logits behind each of these tokens, computed in one pass without a cache; those of all must be in one scale.
  [[nodiscard]] std::vector<std::vector<double>> Recomputed(std::span<const int32_t> ids) {
    const auto tokens = static_cast<int32_t>(ids.size());
    const Var hidden = harness_.model().Hidden(cx_,
                                               {.ids = UploadNumbers(cx_, {ids.begin(), ids.end()}, {tokens}),
                                                .layout = MakeLayout(case_.config, 1, tokens),
                                                .mix = case_.mix});
    std::vector<std::vector<double>> logits;
    for (int32_t i = 0; i < tokens; ++i) {
      logits.push_back(LogitsOf(hidden.value.Rows(i, 1)));
    }
    return logits;
  }

  [[nodiscard]] const ModelCase& model_case() const { return case_; }

  [[nodiscard]] std::vector<double> LogitsOf(const Tensor& hidden) {
    return ToDouble(harness_.model().Logits(cx_, hidden));
  }

 private:
  static ModelCase Lengthened(ModelCase c, int32_t tokens) {
    c.sequences = 1;
    c.documents.clear();
    c.tokens = tokens;
    return c;
  }

  ModelCase case_;
  testing::GuardAllocator memory_;
  ModelHarness harness_;
  ExecContext cx_;
  std::vector<int32_t> ids_;
};

// What decoding has beyond the cases of whole passes: a summary sees text of its chunk that text no more sees.
std::vector<ModelCase> DecodeCases() {
  std::vector<ModelCase> cases = ModelCases();
  ModelCase narrow = FindCase("hybrid, swa and sca, attend");
  narrow.name = "swa narrower than a chunk, attend";
  narrow.config.layers[0] = SwaLayer(1);
  cases.push_back(narrow);
  return cases;
}

// Windows of the cases end after 1, 2 or 4 chunks of 1 to 8 tokens, or 4 tokens.
constexpr int32_t kTokens = 26;

double Bound(DType dtype) {
  return dtype == DType::kF64 ? 1e-12 : 1e-5;
}

// The beginning of every length, then token by token to the end.
void ExpectDecodes(const ModelCase& model_case, DType dtype, int32_t begin_step) {
  Decoding decoding(model_case, dtype, kTokens);
  const auto expected = decoding.Recomputed(decoding.Ids(0, kTokens));
  Decoder decoder = decoding.Make(1, kTokens);
  for (int32_t begin = 1; begin < kTokens; begin += begin_step) {
    SCOPED_TRACE(::testing::Message() << "a beginning of " << begin << " tokens");
    std::vector<double> logits = decoding.LogitsOf(decoder.Prefill(0, decoding.Ids(0, begin)));
    for (int32_t i = begin;; ++i) {
      ASSERT_EQ(decoder.Length(0), i);
      ASSERT_LT(RelativeDifference(logits, expected[static_cast<size_t>(i - 1)]), Bound(dtype)) << "token " << i - 1;
      if (i == kTokens) {
        break;
      }
      const Decoder::Next next = {0, decoding.Id(i)};
      logits = decoding.LogitsOf(decoder.Step({&next, 1}));
    }
  }
}

TEST(Decoder, EqualsTheWholePass) {
  for (const ModelCase& c : DecodeCases()) {
    SCOPED_TRACE("case: " + c.name);
    ExpectDecodes(c, DType::kF64, 1);
  }
}

TEST(Decoder, EqualsTheWholePassInSinglePrecision) {
  for (const ModelCase& c : DecodeCases()) {
    SCOPED_TRACE("case: " + c.name);
    ExpectDecodes(c, DType::kF32, 5);
  }
}

// Prompts of different lengths side by side, one that ends early, and a slot that is taken by another sequence.
TEST(Decoder, SequencesOfABatchDoNotSeeEachOther) {
  for (const ModelCase& c : DecodeCases()) {
    SCOPED_TRACE("case: " + c.name);
    Decoding decoding(c, DType::kF64, kTokens);
    // Sequence s is the text from its token s on.
    const std::vector<int32_t> begins = {7, 1, 12};
    Decoder decoder = decoding.Make(3, kTokens);
    std::vector<std::vector<std::vector<double>>> expected;
    for (int32_t s = 0; s < 3; ++s) {
      expected.push_back(decoding.Recomputed(decoding.Ids(s, kTokens - 3)));
      static_cast<void>(decoder.Prefill(s, decoding.Ids(s, begins[static_cast<size_t>(s)])));
    }
    for (int32_t round = 0; round < 10; ++round) {
      if (round == 4) {  // slot 1 begins anew, with the text of sequence 2
        expected[1] = expected[2];
        static_cast<void>(decoder.Prefill(1, decoding.Ids(2, 3)));
      }
      std::vector<Decoder::Next> next;
      for (const int32_t s : {2, 0, 1}) {
        if (s != 0 || round < 6) {
          const int32_t text = s == 1 && round >= 4 ? 2 : s;
          next.push_back({s, decoding.Id(text + decoder.Length(s))});
        }
      }
      const Tensor hidden = decoder.Step(next);
      for (size_t i = 0; i < next.size(); ++i) {
        const auto at = static_cast<size_t>(decoder.Length(next[i].slot)) - 1;
        EXPECT_LT(RelativeDifference(decoding.LogitsOf(hidden.Rows(static_cast<int64_t>(i), 1)),
                                     expected[static_cast<size_t>(next[i].slot)][at]),
                  Bound(DType::kF64))
            << "round " << round << ", slot " << next[i].slot;
      }
    }
  }
}

// Hidden rows of steps of three sequences that begin at different lengths, the second of which pauses now and then.
std::vector<double> StepsOfABatch(Decoding& decoding, int32_t tokens, StepRecording recording) {
  Decoder decoder = decoding.Make(3, tokens, recording);
  const std::vector<int32_t> begins = {7, 1, 12};
  for (int32_t s = 0; s < 3; ++s) {
    static_cast<void>(decoder.Prefill(s, decoding.Ids(s, begins[static_cast<size_t>(s)])));
  }
  std::vector<double> rows;
  for (int32_t round = 0; decoder.Length(2) < tokens - 3; ++round) {
    std::vector<Decoder::Next> next;
    for (const int32_t s : {2, 0, 1}) {
      if (s != 1 || round % 5 < 3) {
        next.push_back({s, decoding.Id(s + decoder.Length(s))});
      }
    }
    const std::vector<double> hidden = ToDouble(decoder.Step(next));
    rows.insert(rows.end(), hidden.begin(), hidden.end());
  }
  return rows;
}

// A recorded step runs again as what it was: it knows the tokens of the step that it was recorded of, and nothing but
// numbers in memory can tell it of others.
TEST(Decoder, RecordedStepsAreEqualInBits) {
  for (const ModelCase& c : DecodeCases()) {
    SCOPED_TRACE("case: " + c.name);
    Decoding decoding(c, DType::kF32, kTokens + 15);
    const std::vector<double> expected = StepsOfABatch(decoding, kTokens + 15, StepRecording::kNever);
    EXPECT_EQ(StepsOfABatch(decoding, kTokens + 15, StepRecording::kAlways), expected);
  }
}

// Over lengths that steps are recorded for, and back to a short text in the same slots.
TEST(Decoder, RecordedStepsOfLongTexts) {
  for (const char* name : {"hybrid, swa and sca, attend", "hca"}) {
    SCOPED_TRACE(name);
    constexpr int32_t kLong = 800;
    Decoding decoding(FindCase(name), DType::kF32, kLong);
    std::vector<std::vector<double>> rows;
    for (const StepRecording recording : {StepRecording::kNever, StepRecording::kAlways}) {
      Decoder decoder = decoding.Make(1, kLong, recording);
      std::vector<double>& of = rows.emplace_back();
      for (const int32_t begin : {kLong - 560, 20}) {
        static_cast<void>(decoder.Prefill(0, decoding.Ids(0, begin)));
        for (int32_t i = begin; i < std::min(kLong, begin + 559); ++i) {
          const Decoder::Next next = {0, decoding.Id(i)};
          const std::vector<double> hidden = ToDouble(decoder.Step({&next, 1}));
          of.insert(of.end(), hidden.begin(), hidden.end());
        }
      }
    }
    EXPECT_EQ(rows[1], rows[0]);
  }
}

// Each rank keeps its own heads' keys, or its own states.
TEST(Decoder, TensorRanksDecodeTogether) {
  constexpr int kRanks = 2;
  int cases = 0;
  int halves = 0;
  for (ModelCase c : DecodeCases()) {
    const std::vector<LayerSpec>& layers = c.config.layers;
    if (std::any_of(layers.begin(), layers.end(), [&](const LayerSpec& layer) {
          return !layer->TensorProblem(c.config, kRanks).empty();
        })) {
      continue;
    }
    SCOPED_TRACE("case: " + c.name);
    ++cases;
    Decoding decoding(c, DType::kF64, kTokens);
    constexpr int32_t kBegin = 5;
    std::vector<double> expected;
    const auto whole = decoding.Recomputed(decoding.Ids(0, kTokens));
    for (size_t i = kBegin - 1; i < kTokens; ++i) {
      expected.insert(expected.end(), whole[i].begin(), whole[i].end());
    }
    std::array<int64_t, kRanks> bytes{};
    RunRanks(kRanks, [&](Communicator& world) {
      const ProcessMesh mesh(world, {.data = 1, .context = 1, .tensor = kRanks}, false);
      testing::GuardAllocator memory;
      ModelHarness harness(decoding.model_case(), DType::kF64, {}, &mesh);
      const ExecContext cx = {.allocator = &memory, .mesh = &mesh};
      Decoder decoder(cx, harness.model(), {.tokens = kTokens}, c.mix);
      bytes[static_cast<size_t>(world.rank())] = decoder.CacheBytes();
      EXPECT_EQ(decoder.CacheBytes(), Decoder::BytesOfSequence(cx, harness.model(), kTokens));
      std::vector<double> logits = ToDouble(decoder.Logits(decoder.Prefill(0, decoding.Ids(0, kBegin))));
      for (int32_t i = kBegin; i < kTokens; ++i) {
        const Decoder::Next next = {0, decoding.Id(i)};
        const std::vector<double> row = ToDouble(decoder.Logits(decoder.Step({&next, 1})));
        logits.insert(logits.end(), row.begin(), row.end());
      }
      EXPECT_LT(RelativeDifference(logits, expected), Bound(DType::kF64)) << "rank " << world.rank();
    });
    // All have a latent; heads and states are one rank's, or those of ranks that share a head.
    const int64_t alone = CountKvCache(c.config, kTokens, DType::kF64).bytes;
    EXPECT_EQ(bytes[0], bytes[1]);
    EXPECT_GE(bytes[0] + bytes[1], alone);
    EXPECT_LE(bytes[0], alone);
    halves += 2 * bytes[0] == alone ? 1 : 0;
  }
  EXPECT_GT(halves, 20);
  EXPECT_GT(cases, 30);
}

TEST(Decoder, BuffersAreAsLargeAsTheFormulaSays) {
  for (const ModelCase& c : DecodeCases()) {
    SCOPED_TRACE("case: " + c.name);
    Decoding decoding(c, DType::kF32, 1);
    for (const int32_t tokens : {16, 23, 24, 100}) {
      for (const int32_t sequences : {1, 3}) {
        EXPECT_EQ(decoding.Make(sequences, tokens).CacheBytes(),
                  sequences * CountKvCache(c.config, tokens, DType::kF32).bytes)
            << tokens << " tokens";
      }
    }
  }
}

}  // namespace
}  // namespace ksa
