// Oniguruma's syntax, as far as tokenizers use it, to PCRE2's. The two differ in what \s is (PCRE2 counts U+180E), in
// \v, \h, \w, in what $ and ^ are, in classes inside classes, in {n,m}+, in how far (?i) reaches, in letters that fold
// to several: every construct is written anew, and one that is not known here is refused.
#include <algorithm>
#include <array>
#include <charconv>

#include "data/tokenizers/split_regex.h"
#include "data/tools/utf8.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr int kMostDepth = 50;
constexpr size_t kMostBytes = size_t{1} << 16;
constexpr int kMostRepeats = 1000;

// White space, and all that is none.
constexpr const char* kSpace =
    R"(\x{9}-\x{D}\x{20}\x{85}\x{A0}\x{1680}\x{2000}-\x{200A}\x{2028}\x{2029}\x{202F}\x{205F}\x{3000})";
constexpr const char* kNoSpace =
    R"(\x{0}-\x{8}\x{E}-\x{1F}\x{21}-\x{84}\x{86}-\x{9F}\x{A1}-\x{167F}\x{1681}-\x{1FFF}\x{200B}-\x{2027})"
    R"(\x{202A}-\x{202E}\x{2030}-\x{205E}\x{2060}-\x{2FFF}\x{3001}-\x{10FFFF})";

constexpr std::array<std::string_view, 32> kCategories = {
    "L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M", "Mn", "Mc", "Me", "N",  "Nd", "Nl", "No", "P",  "Pc",
    "Pd", "Ps", "Pe", "Pi", "Pf", "Po", "S", "Sm", "Sc", "Sk", "So", "Z",  "Zs", "Zl", "Zp", "Cc"};
constexpr std::array<std::string_view, 18> kScripts = {"Han",
                                                       "Hiragana",
                                                       "Katakana",
                                                       "Hangul",
                                                       "Latin",
                                                       "Cyrillic",
                                                       "Greek",
                                                       "Arabic",
                                                       "Hebrew",
                                                       "Thai",
                                                       "Lao",
                                                       "Khmer",
                                                       "Myanmar",
                                                       "Devanagari",
                                                       "Bengali",
                                                       "Tamil",
                                                       "Telugu",
                                                       "Tibetan"};

// Two letters that another letter folds to: without regard to case Oniguruma matches that one too.
constexpr std::array<std::string_view, 5> kFolded = {"ss", "ff", "fi", "fl", "st"};

class RegexTranslator {
 public:
  RegexTranslator(std::string_view pattern, const std::string& where) : text_(pattern), where_(where) {}

  std::string Translate() {
    if (text_.size() > kMostBytes) {
      Fail(ExitCode::kBadData, "{}: a regular expression of {} bytes; at most {}", where_, text_.size(), kMostBytes);
    }
    if (ValidUtf8Prefix(text_) < text_.size()) {
      Fail(ExitCode::kBadData, "{}: a regular expression that is not UTF-8", where_);
    }
    Alternatives(0, false);
    if (at_ < text_.size()) {
      Refuse(")");
    }
    return out_;
  }

 private:
  [[noreturn]] void Refuse(std::string_view what) const {
    Fail(ExitCode::kBadData,
         "{}: '{}' at byte {} of the regular expression '{:.200}' is not known here",
         where_,
         what,
         at_,
         text_);
  }

  [[nodiscard]] bool Ended() const { return at_ >= text_.size(); }

  [[nodiscard]] bool Takes(std::string_view what) {
    if (text_.substr(at_).starts_with(what)) {
      at_ += what.size();
      return true;
    }
    return false;
  }

  // The next character; the text is valid UTF-8.
  char32_t Next() {
    const auto lead = static_cast<unsigned char>(text_[at_++]);
    if (lead < 0x80) {
      return lead;
    }
    const int more = lead >= 0xF0 ? 3 : (lead >= 0xE0 ? 2 : 1);
    char32_t code = lead & (0x3FU >> static_cast<unsigned>(more));
    for (int i = 0; i < more; ++i) {
      code = (code << 6U) | (static_cast<unsigned char>(text_[at_++]) & 0x3FU);
    }
    return code;
  }

  void Emit(char32_t code) { out_ += fmt::format("\\x{{{:X}}}", static_cast<uint32_t>(code)); }

  void Alternatives(int depth, bool fold) {
    if (depth > kMostDepth) {
      Refuse("(");
    }
    run_.clear();
    while (!Ended() && text_[at_] != ')') {
      if (Takes("|")) {
        out_ += '|';
        run_.clear();
        continue;
      }
      Piece(depth, fold);
    }
  }

  void Piece(int depth, bool fold) {
    if (Takes("(")) {
      Group(depth, fold);
    } else if (text_[at_] == '[') {
      RefuseIf(fold, "[ within (?i:");
      ++at_;
      Class();
    } else if (text_[at_] == '\\') {
      Escape(fold);
    } else if (Takes("^")) {
      out_ += "(?m:^)";
      return;
    } else if (Takes("$")) {
      out_ += "(?m:$)";
      return;
    } else if (Takes(".")) {
      out_ += "[^\\n]";
    } else {
      if (std::string_view("?*+{}]").find(text_[at_]) != std::string_view::npos) {
        Refuse(text_.substr(at_, 1));
      }
      Literal(Next(), fold);
    }
    Quantifier(fold);
  }

  void RefuseIf(bool wrong, std::string_view what) const {
    if (wrong) {
      Refuse(what);
    }
  }

  void Literal(char32_t code, bool fold) {
    if (fold) {
      RefuseIf(code >= 0x80, "a letter outside of ASCII within (?i:");
      const bool upper = code >= 'A' && code <= 'Z';
      run_ += static_cast<char>(upper ? code + 0x20 : code);
      const std::string_view end = std::string_view(run_).substr(run_.size() - std::min<size_t>(2, run_.size()));
      RefuseIf(std::find(kFolded.begin(), kFolded.end(), end) != kFolded.end(), end);
    }
    Emit(code);
  }

  void Group(int depth, bool fold) {
    constexpr std::array<std::string_view, 6> kKinds = {"?:", "?=", "?!", "?<=", "?<!", "?>"};
    RefuseIf(fold, "a group within (?i:");
    const bool inner_fold = Takes("?i:");
    std::string_view kind = inner_fold ? "?i:" : "?:";  // a group that only captures is one like another
    for (const std::string_view known : kKinds) {
      if (!inner_fold && Takes(known)) {
        kind = known;
        break;
      }
    }
    RefuseIf(Takes("?"), "a group of this kind");
    out_ += '(';
    out_ += kind;
    Alternatives(depth + 1, inner_fold);
    RefuseIf(!Takes(")"), "a group without end");
    out_ += ')';
  }

  void Quantifier(bool fold) {
    if (Ended()) {
      return;
    }
    const char sign = text_[at_];
    if (sign == '?' || sign == '*' || sign == '+') {
      ++at_;
      out_ += sign;
      if (!Ended() && (text_[at_] == '?' || text_[at_] == '+')) {
        out_ += text_[at_++];
      }
    } else if (sign == '{') {
      Interval();
    } else {
      return;
    }
    RefuseIf(fold, "a repetition within (?i:");
    RefuseIf(!Ended() && std::string_view("?*+{").find(text_[at_]) != std::string_view::npos, "a repeated repetition");
  }

  void Interval() {
    ++at_;
    const int least = Number();
    int most = least;
    out_ += fmt::format("{{{}", least);
    if (Takes(",")) {
      out_ += ',';
      if (!Ended() && text_[at_] != '}') {
        most = Number();
        out_ += fmt::format("{}", most);
      }
    }
    RefuseIf(!Takes("}") || most < least, "{");
    out_ += '}';
  }

  int Number() {
    int value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, text_.data() + text_.size(), value);
    RefuseIf(error != std::errc() || value < 0 || value > kMostRepeats, "{");
    at_ += static_cast<size_t>(end - begin);
    return value;
  }

  // \p{Name}, \P{Name} or \p{^Name}, behind the p.
  std::string Property(bool negated) {
    RefuseIf(!Takes("{"), "\\p");
    negated = Takes("^") != negated;
    const size_t end = text_.find('}', at_);
    RefuseIf(end == std::string_view::npos, "\\p{");
    const std::string_view name = text_.substr(at_, end - at_);
    const bool category = std::find(kCategories.begin(), kCategories.end(), name) != kCategories.end();
    const bool script = std::find(kScripts.begin(), kScripts.end(), name) != kScripts.end();
    RefuseIf(!category && !script, fmt::format("\\p{{{}}}", name));
    at_ = end + 1;
    return fmt::format("\\{}{{{}{}}}", negated ? 'P' : 'p', script ? "sc:" : "", name);
  }

  // Behind the backslash: the character that it stands for, or nothing (at_ is then where it was).
  bool EscapedCharacter(char32_t& code) {
    constexpr std::array<std::pair<char, char>, 7> kControls = {
        {{'t', '\t'}, {'n', '\n'}, {'r', '\r'}, {'f', '\f'}, {'v', '\v'}, {'a', '\a'}, {'e', '\x1B'}}};
    if (Takes("x{")) {
      code = Hex(1, 6);
      RefuseIf(!Takes("}"), "\\x{");
    } else if (Takes("x")) {
      code = Hex(2, 2);
      RefuseIf(code >= 0x80, "\\x of a byte beyond ASCII");
    } else if (Takes("u")) {
      code = Hex(4, 4);
    } else {
      const char sign = text_[at_];
      const auto* known =
          std::find_if(kControls.begin(), kControls.end(), [&](auto pair) { return pair.first == sign; });
      const bool letter = (sign >= '0' && sign <= '9') || (sign >= 'a' && sign <= 'z') || (sign >= 'A' && sign <= 'Z');
      if (known == kControls.end() && letter) {
        return false;
      }
      code = known != kControls.end() ? (++at_, static_cast<char32_t>(known->second)) : Next();
    }
    RefuseIf(code > 0x10FFFF || (code >= 0xD800 && code < 0xE000), "a character that Unicode does not have");
    return true;
  }

  char32_t Hex(size_t least, size_t most) {
    uint32_t value = 0;
    const char* begin = text_.data() + at_;
    const auto [end, error] = std::from_chars(begin, begin + std::min(most, text_.size() - at_), value, 16);
    const auto digits = static_cast<size_t>(end - begin);
    RefuseIf(error != std::errc() || digits < least, "\\x");
    at_ += digits;
    return value;
  }

  // A set that an escape stands for, as the inside of a class; empty: it is none.
  std::string EscapedSet() {
    if (Takes("s")) {
      return kSpace;
    }
    if (Takes("S")) {
      return kNoSpace;
    }
    if (Takes("d")) {
      return "\\p{Nd}";
    }
    if (Takes("D")) {
      return "\\P{Nd}";
    }
    if (Takes("p")) {
      return Property(false);
    }
    return Takes("P") ? Property(true) : "";
  }

  void Escape(bool fold) {
    ++at_;
    RefuseIf(Ended(), "\\");
    char32_t code = 0;
    if (EscapedCharacter(code)) {
      return Literal(code, fold);
    }
    const size_t sign = at_;
    const std::string set = EscapedSet();
    RefuseIf(set.empty() || fold, fmt::format("\\{}", text_[sign]));
    out_ += "[" + set + "]";
  }

  // One character of a class; false: a set, which is written already.
  bool ClassCharacter(char32_t& code) {
    RefuseIf(text_[at_] == '[' || text_.substr(at_).starts_with("&&"), text_.substr(at_, 2));
    if (text_[at_] != '\\') {
      code = Next();
      return true;
    }
    ++at_;
    RefuseIf(Ended(), "\\");
    if (EscapedCharacter(code)) {
      return true;
    }
    const size_t sign = at_;
    const std::string set = EscapedSet();
    RefuseIf(set.empty(), fmt::format("\\{}", text_[sign]));
    out_ += set;
    return false;
  }

  void Class() {
    out_ += '[';
    if (Takes("^")) {
      out_ += '^';
    }
    RefuseIf(Ended() || text_[at_] == ']', "[]");
    while (!Ended() && text_[at_] != ']') {
      char32_t first = 0;
      if (!ClassCharacter(first)) {
        RefuseIf(text_.substr(at_).starts_with("-") && !text_.substr(at_).starts_with("-]"), "a range of sets");
        continue;
      }
      Emit(first);
      if (text_.substr(at_).starts_with("-") && !text_.substr(at_).starts_with("-]")) {
        ++at_;
        RefuseIf(Ended(), "[");
        char32_t last = 0;
        const bool character = ClassCharacter(last);
        RefuseIf(!character || last < first, "a range");
        out_ += '-';
        Emit(last);
      }
    }
    RefuseIf(!Takes("]"), "[");
    out_ += ']';
  }

  std::string_view text_;
  const std::string& where_;
  size_t at_ = 0;
  std::string out_;
  std::string run_;  // the letters just before, within (?i:
};

}  // namespace

std::string TranslateRegex(std::string_view pattern, const std::string& where) {
  return RegexTranslator(pattern, where).Translate();
}

}  // namespace ksa
