#include "data/tokenizers/split_regex.h"

#include <array>
#include <new>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

std::string MessageOf(int code) {
  std::array<PCRE2_UCHAR, 256> text{};
  pcre2_get_error_message(code, text.data(), text.size());
  return reinterpret_cast<const char*>(text.data());
}

template <typename T>
T* NotNull(T* handle) {
  if (handle == nullptr) {
    throw std::bad_alloc();
  }
  return handle;
}

}  // namespace

void RegexState::Free::operator()(pcre2_real_match_data_8* data) const {
  pcre2_match_data_free(data);
}

void RegexState::Free::operator()(pcre2_real_match_context_8* context) const {
  pcre2_match_context_free(context);
}

void RegexState::Free::operator()(pcre2_real_jit_stack_8* stack) const {
  pcre2_jit_stack_free(stack);
}

void SplitRegex::Free::operator()(pcre2_real_code_8* code) const {
  pcre2_code_free(code);
}

RegexState::RegexState()
    : context_(NotNull(pcre2_match_context_create(nullptr))), data_(NotNull(pcre2_match_data_create(1, nullptr))) {
  // Steps that one match may take: a file's expression may need exponentially many for a text that is made for it.
  constexpr uint32_t kMostSteps = 100'000'000;
  constexpr size_t kStackBytes = size_t{32} << 10U;
  constexpr size_t kMostStackBytes = size_t{16} << 20U;
  pcre2_set_match_limit(context_.get(), kMostSteps);
  uint32_t has_jit = 0;
  pcre2_config(PCRE2_CONFIG_JIT, &has_jit);
  if (has_jit != 0) {
    stack_.reset(NotNull(pcre2_jit_stack_create(kStackBytes, kMostStackBytes, nullptr)));
    pcre2_jit_stack_assign(context_.get(), nullptr, stack_.get());
  }
  span_ = pcre2_get_ovector_pointer(data_.get());
}

RegexState::~RegexState() = default;

SplitRegex::SplitRegex(std::string_view pattern, const std::string& where) {
  Compile(TranslateRegex(pattern, where), where);
}

SplitRegex SplitRegex::FromPcre(const std::string& pattern, const std::string& where) {
  SplitRegex regex;
  regex.Compile(pattern, where);
  return regex;
}

void SplitRegex::Compile(const std::string& pattern, const std::string& where) {
  int error = 0;
  size_t place = 0;
  code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()),
                            pattern.size(),
                            PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C,
                            &error,
                            &place,
                            nullptr));
  if (code_ == nullptr) {
    Fail(ExitCode::kBadData, "{}: a regular expression that PCRE2 does not take: {}", where, MessageOf(error));
  }
  uint32_t matches_empty = 0;
  pcre2_pattern_info(code_.get(), PCRE2_INFO_MATCHEMPTY, &matches_empty);
  if (matches_empty != 0) {
    Fail(ExitCode::kBadData, "{}: a regular expression that matches the empty text is not supported", where);
  }
  // Without machine code (a library built without it, memory that may not be executed) matching is slower, not other.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

bool SplitRegex::Find(std::string_view text, size_t from, RegexState& state, size_t& begin, size_t& end) const {
  const int matches = pcre2_match(code_.get(),
                                  reinterpret_cast<PCRE2_SPTR>(text.data()),
                                  text.size(),
                                  from,
                                  PCRE2_NO_UTF_CHECK,
                                  state.data_.get(),
                                  state.context_.get());
  if (matches == PCRE2_ERROR_NOMATCH) {
    return false;
  }
  if (matches < 0) {
    Fail(ExitCode::kBadData, "the tokenizer's regular expression fails on this text: {}", MessageOf(matches));
  }
  begin = state.span_[0];
  end = state.span_[1];
  if (end <= begin) {
    Fail(ExitCode::kBadData, "the tokenizer's regular expression matches the empty text, which is not supported");
  }
  return true;
}

}  // namespace ksa
