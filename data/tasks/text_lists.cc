// Tasks of whole texts, after RULER (Hsieh et al. 2024): chains of variables (vt), common words (cwe), frequent words
// (fwe).
#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include <fmt/core.h>
#include <fmt/ranges.h>

#include "data/tasks/kinds.h"
#include "data/tasks/text_sample.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kNoise =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.\n";

// What all have in common: samples that do not fit are refused when the task is made.
class TextTask : public Task {
 public:
  explicit TextTask(const TaskPlace& place)
      : kind_(place.spec.kind), tokenizer_(*place.tokenizer), length_(place.sequence_length) {}

  [[nodiscard]] int64_t MostTargets() const override { return length_; }

 protected:
  [[nodiscard]] TextSample NewSample(bool begins) const { return TextSample(tokenizer_, begins); }

  [[nodiscard]] int64_t SizeOf(const std::string& text) const {
    std::vector<int32_t> ids;
    tokenizer_.EncodeRest(text, ids);
    return static_cast<int64_t>(ids.size());
  }

  // Ids that are left beside `size`.
  [[nodiscard]] int64_t RoomBeside(int64_t size) const {
    if (size > length_ + 1) {
      FailOfLength(fmt::format("a sample of {} tokens", size));
    }
    return length_ + 1 - size;
  }

  [[noreturn]] void FailOfLength(const std::string& what) const {
    Fail(ExitCode::kConfig,
         "task {}: {} rows are too few for {}; raise training.sequence_length, or ask for less",
         kind_,
         length_,
         what);
  }

  void TryOne() const {
    SampleRandom random(0, 0);
    std::vector<int32_t> rows(static_cast<size_t>(length_));
    std::vector<int32_t> targets(rows.size());
    TaskSample sample = {rows, targets, {}};
    Make(random, 0, sample);
  }

 private:
  std::string kind_;
  const Tokenizer& tokenizer_;
  int64_t length_;
};

class VariableText final : public TextTask {
 public:
  VariableText(const TaskPlace& place, int64_t chains, int64_t hops)
      : TextTask(place), chains_(chains), hops_(hops), noise_(SizeOf(kNoise)) {
    TryOne();
  }

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    const int64_t links = hops_ + 1;
    std::vector<std::string> names;
    for (const std::string& word : MadeUpWords(random, static_cast<size_t>(chains_ * links))) {
      names.push_back(word);
    }
    std::vector<std::string> values;
    std::vector<int32_t> order;
    for (int64_t chain = 0; chain < chains_; ++chain) {
      values.push_back(fmt::format("{}", 10000 + random.Below(90000)));
      order.insert(order.end(), static_cast<size_t>(links), static_cast<int32_t>(chain));
    }
    random.Shuffle(order);
    TextSample tail = NewSample(false);
    const int64_t asked = random.Below(chains_);
    tail.Add(
        fmt::format("Question: Find all variables that are assigned the value {} in the text above. Answer: {} "
                    "variables are assigned the value {}, they are:",
                    values[static_cast<size_t>(asked)],
                    links,
                    values[static_cast<size_t>(asked)]));
    std::vector<std::pair<std::string, double>> answers;
    for (int64_t link = 0; link < links; ++link) {
      answers.emplace_back(names[static_cast<size_t>(asked * links + link)], static_cast<double>(link));
    }
    std::sort(answers.begin(), answers.end());  // so that none can be read off the one before
    for (const auto& [name, hops] : answers) {
      tail.Answer(" " + name, {hops});
    }
    TextSample text = NewSample(true);
    text.Add("Memorize and track the chains of variable assignment hidden in the following text.\n");
    std::vector<std::string> lines;
    std::vector<int64_t> done(static_cast<size_t>(chains_));
    int64_t size = text.size() + tail.size();
    for (const int32_t chain : order) {
      const int64_t link = done[static_cast<size_t>(chain)]++;
      const auto at = static_cast<size_t>(chain * links + link);
      lines.push_back(fmt::format(
          "VAR {} = {}\n", names[at], link == 0 ? values[static_cast<size_t>(chain)] : "VAR " + names[at - 1]));
      size += SizeOf(lines.back());
    }
    const int64_t noise = RoomBeside(size) / noise_;
    std::vector<int32_t> places;  // of the assignments among the lines of noise
    for (size_t i = 0; i < lines.size(); ++i) {
      places.push_back(static_cast<int32_t>(random.Below(noise + 1)));
    }
    std::sort(places.begin(), places.end());
    size_t next = 0;
    for (int64_t i = 0; i <= noise; ++i) {
      for (; next < lines.size() && places[next] <= i; ++next) {
        text.Add(lines[next]);
      }
      if (i < noise) {
        text.Add(kNoise);
      }
    }
    text.Add(tail);
    text.Write(sample);
  }

 private:
  int64_t chains_;
  int64_t hops_;
  int64_t noise_;
};

// Both kinds of words: some to be found, others that fill the sequence, all mixed.
class WordCounts final : public TextTask {
 public:
  struct Shape {
    std::string instruction;
    std::string question;
    int64_t answers = 10;       // the first words
    bool alphabetical = false;  // so they are answered, where all come as often; else the most frequent one first
    // Of word `rank` from 0: how often it comes, where `room` words come in all. 0: it does not.
    std::function<int64_t(int64_t rank, int64_t room)> times;
  };

  WordCounts(const TaskPlace& place, Shape shape) : TextTask(place), shape_(std::move(shape)) { TryOne(); }

  void Make(SampleRandom& random, int64_t /*number*/, TaskSample& sample) const override {
    std::vector<std::string> words = MadeUpWords(random, static_cast<size_t>(shape_.answers));
    if (shape_.alphabetical) {
      std::sort(words.begin(), words.end());
    }
    TextSample tail = NewSample(false);
    tail.Add("\n" + shape_.question);
    int64_t longest = 0;
    for (size_t rank = 0; rank < words.size(); ++rank) {
      longest = std::max(longest, SizeOf(" " + words[rank]));
      tail.Answer(" " + words[rank], {static_cast<double>(rank + 1)});
    }
    TextSample text = NewSample(true);
    text.Add(shape_.instruction);
    const std::vector<int32_t> order = Order(random, text.size() + tail.size(), longest, words);
    for (const int32_t rank : order) {
      text.Add(" " + words[static_cast<size_t>(rank)]);
    }
    text.Add(tail);
    text.Write(sample);
  }

 private:
  // Words by rank, mixed, as many as there is room for beside `size`; adds to `words` those that nobody asks for.
  std::vector<int32_t> Order(SampleRandom& random,
                             int64_t size,
                             int64_t longest,
                             std::vector<std::string>& words) const {
    std::set<std::string> seen(words.begin(), words.end());
    int64_t room = RoomBeside(size);
    const int64_t count = room / longest;
    std::vector<int32_t> order;
    for (int64_t rank = 0;; ++rank) {
      const int64_t times = shape_.times(rank, count);
      if (rank == static_cast<int64_t>(words.size())) {
        std::string word;
        do {
          word = MadeUpWord(random);
        } while (!seen.insert(word).second);
        words.push_back(std::move(word));
      }
      const int64_t tokens = times * SizeOf(" " + words[static_cast<size_t>(rank)]);
      const bool asked = rank < shape_.answers;
      if (asked && (tokens > room || times <= shape_.times(shape_.answers, count))) {
        FailOfLength("the words that are asked for");  // there is no room for them, or too little to tell them apart
      }
      if (times == 0 || tokens > room) {
        break;
      }
      room -= tokens;
      order.insert(order.end(), static_cast<size_t>(times), static_cast<int32_t>(rank));
    }
    random.Shuffle(order);
    return order;
  }

  Shape shape_;
};

std::unique_ptr<Task> MakeVt(const TaskPlace& place) {
  return std::make_unique<VariableText>(place, place.spec.Integer("num_chains", 1), place.spec.Integer("num_hops", 4));
}

// The first num_cw words come freq_cw times each, others freq_ucw times.
std::unique_ptr<Task> MakeCwe(const TaskPlace& place) {
  const int64_t often = place.spec.Integer("freq_cw", 30);
  const int64_t seldom = place.spec.Integer("freq_ucw", 3);
  const int64_t words = place.spec.Integer("num_cw", 10);
  if (often <= seldom) {
    Fail(ExitCode::kConfig, "task cwe: freq_cw {} is not more than freq_ucw {}; raise it", often, seldom);
  }
  return std::make_unique<WordCounts>(
      place,
      WordCounts::Shape{
          .instruction = "Below is a list of words. Memorize the ones that appear most often.\n",
          .question = fmt::format("Question: What are the {} most common words in the above list? Answer: The top {} "
                                  "words that appear most often in the list are:",
                                  words,
                                  words),
          .answers = words,
          .alphabetical = true,
          .times = [=](int64_t rank, int64_t /*room*/) { return rank < words ? often : seldom; }});
}

// Word number r comes in proportion to r^-alpha.
std::unique_ptr<Task> MakeFwe(const TaskPlace& place) {
  constexpr int64_t kAsked = 3;
  const double alpha = place.spec.Number("alpha", 2.0);
  double zeta = 0;
  for (int r = 1; r <= 10000; ++r) {
    zeta += std::pow(r, -alpha);
  }
  return std::make_unique<WordCounts>(
      place,
      WordCounts::Shape{.instruction = "Read the following coded text and track the frequency of each coded word.\n",
                        .question = "Question: What are the three most frequently appeared words in the above coded "
                                    "text? Answer: The three words are:",
                        .answers = kAsked,
                        .times = [=](int64_t rank, int64_t room) {
                          return static_cast<int64_t>(static_cast<double>(room) *
                                                      std::pow(static_cast<double>(rank + 1), -alpha) / zeta);
                        }});
}

}  // namespace

TaskKind VtKind() {
  return {"vt",
          {{.name = "num_chains", .most = 1 << 10, .default_text = "1"},
           {.name = "num_hops", .most = 1 << 10, .default_text = "4"}},
          {"hops"},
          true,
          MakeVt};
}

TaskKind CweKind() {
  return {"cwe",
          {{.name = "freq_cw", .most = 1 << 20, .default_text = "30"},
           {.name = "freq_ucw", .most = 1 << 20, .default_text = "3"},
           {.name = "num_cw", .most = 1 << 10, .default_text = "10"}},
          {"rank"},
          true,
          MakeCwe};
}

TaskKind FweKind() {
  return {"fwe",
          {{.name = "alpha", .type = TaskKey::Type::kNumber, .least = 1.1, .most = 10, .default_text = "2"}},
          {"rank"},
          true,
          MakeFwe};
}

}  // namespace ksa
