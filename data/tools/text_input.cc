#include "data/tools/text_input.h"

#include <algorithm>
#include <array>
#include <new>
#include <string_view>

#include <zlib.h>
#include <zstd.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr size_t kChunkBytes = size_t{1} << 18;

// One or more members, as gzip, pigz and `cat a.gz b.gz` write them.
class GzipDecoder : public TextDecoder {
 public:
  GzipDecoder() {
    constexpr int kGzip = 15 + 16;  // zlib's way to ask for the header of gzip
    if (inflateInit2(&stream_, kGzip) != Z_OK) {
      throw std::bad_alloc();
    }
  }

  ~GzipDecoder() override { inflateEnd(&stream_); }

  Step Decode(const char* in, size_t in_bytes, char* out, size_t out_bytes) override {
    stream_.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(in));  // zlib's C interface; it only reads
    stream_.avail_in = static_cast<uInt>(in_bytes);
    stream_.next_out = reinterpret_cast<Bytef*>(out);
    stream_.avail_out = static_cast<uInt>(out_bytes);
    const int code = inflate(&stream_, Z_NO_FLUSH);
    Step step;
    step.taken = in_bytes - stream_.avail_in;
    step.given = out_bytes - stream_.avail_out;
    if (code == Z_STREAM_END) {
      step.whole = true;
      inflateReset(&stream_);
    } else if (code != Z_OK && code != Z_BUF_ERROR) {
      step.error = stream_.msg != nullptr ? stream_.msg : zError(code);
    }
    return step;
  }

 private:
  z_stream stream_{};
};

class ZstdDecoder : public TextDecoder {
 public:
  ZstdDecoder() : stream_(ZSTD_createDStream()) {
    if (stream_ == nullptr) {
      throw std::bad_alloc();
    }
  }

  Step Decode(const char* in, size_t in_bytes, char* out, size_t out_bytes) override {
    ZSTD_inBuffer from = {in, in_bytes, 0};
    ZSTD_outBuffer to = {out, out_bytes, 0};
    const size_t code = ZSTD_decompressStream(stream_.get(), &to, &from);
    Step step = {from.pos, to.pos, code == 0, ""};
    if (ZSTD_isError(code) != 0) {
      step.error = ZSTD_getErrorName(code);
    }
    return step;
  }

 private:
  struct Free {
    void operator()(ZSTD_DStream* stream) const { ZSTD_freeDStream(stream); }
  };

  std::unique_ptr<ZSTD_DStream, Free> stream_;
};

std::unique_ptr<TextDecoder> DecoderFor(const File& file, int64_t bytes) {
  std::array<char, 4> magic{};
  file.ReadAt(0, magic.data(), std::min<int64_t>(bytes, magic.size()));
  const std::string_view begin(magic.data(), magic.size());
  if (begin.starts_with("\x1f\x8b\x08")) {
    return std::make_unique<GzipDecoder>();
  }
  if (begin == "\x28\xb5\x2f\xfd") {
    return std::make_unique<ZstdDecoder>();
  }
  return nullptr;
}

}  // namespace

TextInput::TextInput(const std::string& path)
    : file_(File::OpenForReading(path)), file_bytes_(file_.Size()), decoder_(DecoderFor(file_, file_bytes_)) {}

// More compressed bytes; false: the file has no more.
bool TextInput::Refill() {
  const int64_t bytes = std::min(static_cast<int64_t>(kChunkBytes), file_bytes_ - position_);
  in_.resize(static_cast<size_t>(bytes));
  in_at_ = 0;
  file_.ReadAt(position_, in_.data(), bytes);
  position_ += bytes;
  return bytes > 0;
}

// Decodes until there is text that was not read, or no more.
void TextInput::DecodeAhead() {
  ahead_.resize(kChunkBytes);
  ahead_at_ = 0;
  TextDecoder::Step step;
  do {
    if (in_at_ == in_.size() && !Refill() && whole_) {
      break;
    }
    step = decoder_->Decode(in_.data() + in_at_, in_.size() - in_at_, ahead_.data(), ahead_.size());
    in_at_ += step.taken;
    whole_ = step.whole;
    if (!step.error.empty()) {
      Fail(ExitCode::kBadData,
           "{}: the compressed data is damaged near byte {}: {}",
           file_.path(),
           position(),
           step.error);
    }
    if (step.given == 0 && step.taken == 0 && !whole_) {  // it wants more than there is
      Fail(ExitCode::kBadData,
           "{}: the compressed data breaks off at byte {}, the end of the file",
           file_.path(),
           position_);
    }
  } while (step.given == 0);
  ahead_.resize(step.given);
}

void TextInput::Read(std::string& text, size_t bytes) {
  if (decoder_ == nullptr) {
    const int64_t some = std::min(static_cast<int64_t>(bytes), file_bytes_ - position_);
    const size_t old = text.size();
    text.resize(old + static_cast<size_t>(some));
    file_.ReadAt(position_, text.data() + old, some);
    position_ += some;
    return;
  }
  while (bytes > 0 && !AtEnd()) {
    const size_t some = std::min(bytes, ahead_.size() - ahead_at_);
    text.append(ahead_, ahead_at_, some);
    ahead_at_ += some;
    bytes -= some;
  }
}

void TextInput::Skip(int64_t bytes) {
  if (decoder_ == nullptr) {
    position_ = std::min(position_ + bytes, file_bytes_);
    return;
  }
  while (bytes > 0 && !AtEnd()) {
    const int64_t some = std::min(bytes, static_cast<int64_t>(ahead_.size() - ahead_at_));
    ahead_at_ += static_cast<size_t>(some);
    bytes -= some;
  }
}

bool TextInput::AtEnd() {
  if (decoder_ == nullptr) {
    return position_ == file_bytes_;
  }
  if (ahead_at_ == ahead_.size()) {
    DecodeAhead();
  }
  return ahead_.empty();
}

}  // namespace ksa
