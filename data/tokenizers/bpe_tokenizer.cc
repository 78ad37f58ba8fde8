#include "data/tokenizers/bpe_tokenizer.h"

#include <mutex>
#include <unordered_map>
#include <utility>

#include "data/tokenizers/nfc.h"
#include "data/tokenizers/word_cache.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

// What one thread works in.
struct EncodeState {
  RegexState regex;
  BpeScratch scratch;
  WordCache cache;
  std::string normalized;
  std::string prefixed;
  std::vector<AddedPart> raw_parts;
  std::vector<AddedPart> parts;
};

// States that no thread has at the moment. A call takes one and puts it back, so that there are as many as threads.
class StatePool {
 public:
  class Lease {
   public:
    explicit Lease(StatePool& pool) : pool_(pool), state_(pool.Take()) {}

    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;

    ~Lease() { pool_.Put(std::move(state_)); }

    [[nodiscard]] EncodeState& state() const { return *state_; }

   private:
    StatePool& pool_;
    std::unique_ptr<EncodeState> state_;
  };

 private:
  std::unique_ptr<EncodeState> Take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        std::unique_ptr<EncodeState> state = std::move(free_.back());
        free_.pop_back();
        return state;
      }
      free_.reserve(++made_);  // Put must not fail
    }
    return std::make_unique<EncodeState>();
  }

  void Put(std::unique_ptr<EncodeState> state) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(state));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<EncodeState>> free_;
  size_t made_ = 0;
};

std::vector<AddedToken> Those(const std::vector<AddedToken>& tokens, bool normalized, bool nfc) {
  std::vector<AddedToken> chosen;
  std::string changed;
  for (const AddedToken& token : tokens) {
    if (token.normalized == normalized) {
      chosen.push_back(token);
      if (normalized && nfc) {
        chosen.back().content = std::string(ToNfc(token.content, changed));
      }
    }
  }
  return chosen;
}

class BpeTokenizer : public Tokenizer {
 public:
  BpeTokenizer(BpeParts parts, SpecialTokens special)
      : parts_(std::move(parts)),
        raw_(Those(parts_.added, false, parts_.nfc), special == SpecialTokens::kTokens),
        normalized_(Those(parts_.added, true, parts_.nfc), special == SpecialTokens::kTokens) {
    if (parts_.whole_words) {
      for (size_t id = 0; id < parts_.tokens.size(); ++id) {
        if (parts_.is_word[id] != 0) {
          words_.emplace(parts_.tokens[id], static_cast<int32_t>(id));
        }
      }
    }
  }

  void Encode(std::string_view text, std::vector<int32_t>& ids) const override { Encode(text, true, ids); }

  void EncodeRest(std::string_view text, std::vector<int32_t>& ids) const override { Encode(text, false, ids); }

  [[nodiscard]] std::string Decode(std::span<const int32_t> ids) const override {
    std::string text;
    for (const int32_t id : ids) {
      if (id < 0 || id >= vocab_size()) {
        Fail(ExitCode::kBadData, "token {} is outside the vocabulary of {} ({})", id, vocab_size(), parts_.name);
      }
      if (id != parts_.eos_id) {
        text += parts_.tokens[static_cast<size_t>(id)];
      }
    }
    return text;
  }

  [[nodiscard]] bool CutsAnywhere() const override { return false; }

  [[nodiscard]] int64_t vocab_size() const override { return static_cast<int64_t>(parts_.tokens.size()); }

  [[nodiscard]] int64_t eos_id() const override { return parts_.eos_id; }

  [[nodiscard]] std::string name() const override { return parts_.name; }

  [[nodiscard]] const std::string& file_contents() const override { return parts_.contents; }

  [[nodiscard]] std::string file_name() const override { return parts_.file_name; }

 private:
  void Encode(std::string_view text, bool begins, std::vector<int32_t>& ids) const {
    const StatePool::Lease lease(pool_);
    EncodeState& state = lease.state();
    state.raw_parts.clear();
    raw_.Split(text, state.regex, state.raw_parts);
    bool prefix = begins;
    for (const AddedPart& raw : state.raw_parts) {
      if (raw.id >= 0) {
        ids.push_back(raw.id);
      } else {
        EncodeBetween(parts_.nfc ? ToNfc(raw.text, state.normalized) : raw.text, prefix, state, ids);
      }
      prefix = true;
    }
  }

  // Text between tokens that stand in the raw text.
  void EncodeBetween(std::string_view text, bool prefix, EncodeState& state, std::vector<int32_t>& ids) const {
    state.parts.clear();
    normalized_.Split(text, state.regex, state.parts);
    for (const AddedPart& part : state.parts) {
      if (part.id >= 0) {
        ids.push_back(part.id);
      } else if (parts_.add_prefix_space && prefix && part.text.front() != ' ') {
        state.prefixed.assign(" ").append(part.text);
        CutWords(state.prefixed, 0, state, ids);
      } else {
        CutWords(part.text, 0, state, ids);
      }
      prefix = true;
    }
  }

  void CutWords(std::string_view text, size_t stage, EncodeState& state, std::vector<int32_t>& ids) const {
    if (stage == parts_.splits.size()) {
      return EncodeWord(text, state, ids);
    }
    parts_.splits[stage].ForEachPart(
        text, state.regex, [&](std::string_view part) { CutWords(part, stage + 1, state, ids); });
  }

  void EncodeWord(std::string_view word, EncodeState& state, std::vector<int32_t>& ids) const {
    if (word.size() > WordCache::kMostBytes) {
      return MergeWord(word, state, ids);
    }
    WordCache::Entry& entry = state.cache.Place(word);
    if (WordCache::Holds(entry, word)) {
      ids.insert(ids.end(), entry.ids, entry.ids + entry.count);
      return;
    }
    const size_t before = ids.size();
    MergeWord(word, state, ids);
    WordCache::Put(entry, word, std::span(ids).subspan(before));
  }

  void MergeWord(std::string_view word, EncodeState& state, std::vector<int32_t>& ids) const {
    if (parts_.whole_words) {
      if (const auto known = words_.find(word); known != words_.end()) {
        ids.push_back(known->second);
        return;
      }
    }
    parts_.model.Encode(word, state.scratch, ids);
  }

  const BpeParts parts_;
  const AddedTokens raw_;         // looked for in the text as it is
  const AddedTokens normalized_;  // looked for in what is left of it, normalized
  std::unordered_map<std::string_view, int32_t> words_;
  mutable StatePool pool_;
};

}  // namespace

std::unique_ptr<Tokenizer> MakeBpeTokenizer(BpeParts parts, SpecialTokens special) {
  return std::make_unique<BpeTokenizer>(std::move(parts), special);
}

}  // namespace ksa
