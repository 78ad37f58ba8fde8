// Needles in a haystack of words, after RULER (Hsieh et al. 2024): sentences that tell the number of a word, among
// noise or among other needles, and a question for one of them.
#include <algorithm>
#include <cmath>

#include <fmt/core.h>

#include "data/tasks/kinds.h"
#include "data/tasks/text_sample.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";
constexpr int kTries = 100;  // numbers and words that need more tokens than there is room are drawn again

// Words, numbers and UUIDs as keys and values; kWords is RULER's default of keys, kNumbers that of values.
enum class Kind : int { kWords, kNumbers, kUuids };

std::string Draw(Kind kind, SampleRandom& random) {
  return kind == Kind::kWords ? MadeUpWord(random) : kind == Kind::kNumbers ? SevenDigits(random) : MadeUpUuid(random);
}

struct NeedleShape {
  bool among_needles = false;  // the haystack is of needles, not of noise
  int64_t keys = 1;            // needles of different keys, where the haystack is noise
  int64_t values = 1;          // of a key, each a needle
  Kind key_kind = Kind::kWords;
  Kind value_kind = Kind::kNumbers;
  std::vector<double> depths;  // empty: all, evenly
};

class TextNeedles final : public Task {
 public:
  TextNeedles(NeedleShape shape, const TaskPlace& place)
      : shape_(std::move(shape)), tokenizer_(*place.tokenizer), length_(place.sequence_length) {
    tokenizer_.EncodeRest(kNoise, noise_);
    SampleRandom random(0, 0);  // whether one fits: all are about as long
    TaskSample unused = {};
    std::vector<int32_t> rows(static_cast<size_t>(length_));
    std::vector<int32_t> targets(rows.size());
    unused.inputs = rows;
    unused.targets = targets;
    Make(random, 0, unused);
  }

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    for (int i = 0; i < kTries; ++i) {
      if (TryToMake(random, sample)) {
        return;
      }
    }
    Fail(ExitCode::kConfig,
         "a sample of a needle of text does not fit into {} rows; raise training.sequence_length, or ask for fewer or "
         "shorter needles",
         length_);
  }

  [[nodiscard]] int64_t MostTargets() const override { return length_; }

 private:
  struct Sentence {
    std::vector<int32_t> ids;
    double place = 0.0;  // among the haystack's lines, 0 to 1
  };

  [[nodiscard]] std::vector<int32_t> Needle(const std::string& key, const std::string& value) const {
    std::vector<int32_t> ids;
    tokenizer_.EncodeRest(fmt::format("One of the special magic {} for {} is: {}.\n", Noun(), key, value), ids);
    return ids;
  }

  [[nodiscard]] const char* Noun() const { return shape_.value_kind == Kind::kUuids ? "uuids" : "numbers"; }

  bool TryToMake(SampleRandom& random, TaskSample& sample) const {
    const std::string key = Draw(shape_.key_kind, random);
    const double depth =
        shape_.depths.empty()
            ? random.Open()
            : shape_.depths[static_cast<size_t>(random.Below(static_cast<int64_t>(shape_.depths.size())))];
    std::vector<std::string> values;
    std::vector<Sentence> needles;
    for (int64_t v = 0; v < shape_.values; ++v) {
      values.push_back(Draw(shape_.value_kind, random));
      needles.push_back({Needle(key, values.back()), v == 0 ? depth : random.Open()});
    }
    for (int64_t k = 1; k < shape_.keys && !shape_.among_needles; ++k) {
      needles.push_back({Needle(Draw(shape_.key_kind, random), Draw(shape_.value_kind, random)), random.Open()});
    }
    std::stable_sort(
        needles.begin(), needles.end(), [](const Sentence& a, const Sentence& b) { return a.place < b.place; });
    const double counted = shape_.depths.empty() ? std::round(depth * 10) / 10 : depth;
    TextSample tail(tokenizer_);
    tail.Add(
        fmt::format("What are all the special magic {} for {} mentioned in the provided text? The special magic {} "
                    "for {} mentioned in the provided text are",
                    Noun(),
                    key,
                    Noun(),
                    key));
    for (const std::string& value : values) {
      tail.Answer(" " + value, {counted});
    }
    TextSample text(tokenizer_, true);
    text.Add(fmt::format("Some special magic {} are hidden within the following text. Make sure to memorize them.\n",
                         Noun()));
    int64_t room = length_ + 1 - text.size() - tail.size();
    for (const Sentence& needle : needles) {
      room -= static_cast<int64_t>(needle.ids.size());
    }
    if (room < 0) {
      return false;
    }
    AddHaystack(random, room, needles, text);
    text.Add(tail);
    text.Write(sample);
    return true;
  }

  // Lines that fill the room, and the needles between them at their places.
  void AddHaystack(SampleRandom& random, int64_t room, const std::vector<Sentence>& needles, TextSample& text) const {
    std::vector<std::vector<int32_t>> lines;
    while (true) {
      std::vector<int32_t> line =
          shape_.among_needles ? Needle(Draw(shape_.key_kind, random), Draw(shape_.value_kind, random)) : noise_;
      room -= static_cast<int64_t>(line.size());
      if (room < 0) {
        break;
      }
      lines.push_back(std::move(line));
    }
    size_t next = 0;
    for (size_t i = 0; i <= lines.size(); ++i) {
      for (; next < needles.size() &&
             (i == lines.size() ||
              std::llround(needles[next].place * static_cast<double>(lines.size())) <= static_cast<int64_t>(i));
           ++next) {
        text.Add(needles[next].ids);
      }
      if (i < lines.size()) {
        text.Add(lines[i]);
      }
    }
  }

  NeedleShape shape_;
  const Tokenizer& tokenizer_;
  int64_t length_;
  std::vector<int32_t> noise_;
};

NeedleShape CommonShape(const TaskPlace& place) {
  NeedleShape shape;
  shape.key_kind = static_cast<Kind>(place.spec.Integer("type_needle_k", static_cast<int64_t>(Kind::kWords)));
  shape.value_kind = static_cast<Kind>(place.spec.Integer("type_needle_v", static_cast<int64_t>(Kind::kNumbers)));
  shape.depths = place.spec.List("depth", {});
  return shape;
}

std::unique_ptr<Task> MakeSingle(const TaskPlace& place) {
  return std::make_unique<TextNeedles>(CommonShape(place), place);
}

std::unique_ptr<Task> MakeMultikey(const TaskPlace& place) {
  NeedleShape shape = CommonShape(place);
  shape.among_needles = place.spec.Integer("type_haystack", 0) == 0;
  if (shape.among_needles && place.spec.Has("num_needle_k")) {
    Fail(ExitCode::kConfig,
         "task niah_multikey: num_needle_k counts needles among noise, but type_haystack is needle, which fills the "
         "sequence with them; remove it, or set type_haystack: noise");
  }
  shape.keys = place.spec.Integer("num_needle_k", 4);
  return std::make_unique<TextNeedles>(std::move(shape), place);
}

std::unique_ptr<Task> MakeMultivalue(const TaskPlace& place) {
  NeedleShape shape = CommonShape(place);
  shape.values = place.spec.Integer("num_needle_v", 4);
  return std::make_unique<TextNeedles>(std::move(shape), place);
}

std::vector<TaskKey> WithCommonKeys(std::vector<TaskKey> keys) {
  const std::vector<std::string> kinds = {"words", "numbers", "uuids"};
  keys.push_back(
      {.name = "depth", .type = TaskKey::Type::kFractions, .least = 0, .most = 1, .default_text = "uniform"});
  keys.push_back({.name = "type_needle_k", .type = TaskKey::Type::kWord, .words = kinds, .default_text = "words"});
  keys.push_back({.name = "type_needle_v", .type = TaskKey::Type::kWord, .words = kinds, .default_text = "numbers"});
  return keys;
}

}  // namespace

TaskKind NiahSingleKind() {
  return {"niah_single", WithCommonKeys({}), {"depth"}, true, MakeSingle};
}

TaskKind NiahMultikeyKind() {
  return {"niah_multikey",
          WithCommonKeys({{.name = "num_needle_k", .most = 1 << 16, .default_text = "4"},
                          {.name = "type_haystack",
                           .type = TaskKey::Type::kWord,
                           .words = {"needle", "noise"},
                           .default_text = "needle"}}),
          {"depth"},
          true,
          MakeMultikey};
}

TaskKind NiahMultivalueKind() {
  return {"niah_multivalue",
          WithCommonKeys({{.name = "num_needle_v", .most = 1 << 16, .default_text = "4"}}),
          {"depth"},
          true,
          MakeMultivalue};
}

}  // namespace ksa
