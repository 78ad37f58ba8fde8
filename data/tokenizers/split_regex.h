// A regular expression that cuts text into words, in the dialect of Hugging Face's tokenizers (Oniguruma's Ruby).
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

// PCRE2's names of its handles; its header is for .cc files alone.
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace ksa {

// The same expression for PCRE2. What is not known to mean the same in both, of syntax and of properties, is refused:
// Error kBadData naming it and `where`.
[[nodiscard]] std::string TranslateRegex(std::string_view pattern, const std::string& where);

// What a thread that matches needs; one serves any number of expressions, one after another.
class RegexState {
 public:
  RegexState();
  RegexState(const RegexState&) = delete;
  RegexState& operator=(const RegexState&) = delete;
  ~RegexState();

 private:
  friend class SplitRegex;

  struct Free {
    void operator()(pcre2_real_match_data_8* data) const;
    void operator()(pcre2_real_match_context_8* context) const;
    void operator()(pcre2_real_jit_stack_8* stack) const;
  };

  std::unique_ptr<pcre2_real_jit_stack_8, Free> stack_;  // none where the library compiles no machine code
  std::unique_ptr<pcre2_real_match_context_8, Free> context_;
  std::unique_ptr<pcre2_real_match_data_8, Free> data_;
  const size_t* span_ = nullptr;  // begin and end of the match, in data_
};

class SplitRegex {
 public:
  // `pattern` as the tokenizer's file gives it. Error kBadData: refused by TranslateRegex, not an expression, or one
  // that matches the empty text.
  SplitRegex(std::string_view pattern, const std::string& where);
  // `pattern` is PCRE2's and is taken as it is.
  [[nodiscard]] static SplitRegex FromPcre(const std::string& pattern, const std::string& where);

  // The first match at or behind `from`, in text that is valid UTF-8; false: there is none. Error kBadData when the
  // expression needs more steps or memory than it may have.
  [[nodiscard]] bool Find(std::string_view text, size_t from, RegexState& state, size_t& begin, size_t& end) const;

  // Calls use(part) for every match and for what lies between, in order.
  template <typename Use>
  void ForEachPart(std::string_view text, RegexState& state, const Use& use) const {
    size_t done = 0;
    size_t begin = 0;
    size_t end = 0;
    while (done < text.size() && Find(text, done, state, begin, end)) {
      if (begin > done) {
        use(text.substr(done, begin - done));
      }
      use(text.substr(begin, end - begin));
      done = end;
    }
    if (done < text.size()) {
      use(text.substr(done));
    }
  }

 private:
  struct Free {
    void operator()(pcre2_real_code_8* code) const;
  };

  SplitRegex() = default;
  void Compile(const std::string& pattern, const std::string& where);

  std::unique_ptr<pcre2_real_code_8, Free> code_;
};

}  // namespace ksa
