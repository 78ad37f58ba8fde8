// Several texts that grow at a time, printed one behind the other: the first that is not over is shown as it grows.
#pragma once

#include <cstddef>
#include <cstdio>
#include <string>
#include <vector>

namespace ksa {

class TextWriter {
 public:
  // Texts among several are headed by lines "==> text 1 of 3 <==". `live`: every piece is flushed, for a reader who
  // waits.
  TextWriter(size_t texts, bool live, std::FILE* file) : live_(live), file_(file), texts_(texts) {}

  void Add(size_t text, const std::string& piece);
  void End(size_t text);

 private:
  struct Text {
    std::string waiting;
    bool is_over = false;
  };

  void Begin();
  void Write(const std::string& piece);

  bool live_;
  std::FILE* file_;
  std::vector<Text> texts_;
  size_t shown_ = 0;  // the text that is shown
  bool headed_ = false;
};

}  // namespace ksa
