#include "data/shards/shard_writer.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include <xxhash.h>

#include "kernels/core/error.h"

namespace ksa {
namespace {

static_assert(std::endian::native == std::endian::little, "shards are stored little-endian and written as memory");

constexpr size_t kBufferBytes = size_t{1} << 20;  // stays in cache; a write call costs nothing at this size
constexpr size_t kOffsetBuffer = size_t{1} << 14;

// Narrows the tokens and returns the largest, as an unsigned number: a negative id shows up as a huge one.
template <typename T>
uint32_t Narrow(std::span<const int32_t> tokens, std::byte* to) {
  uint32_t largest = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const auto token = static_cast<uint32_t>(tokens[i]);
    largest = std::max(largest, token);
    const T narrow = static_cast<T>(token);
    std::memcpy(to + i * sizeof(T), &narrow, sizeof(T));
  }
  return largest;
}

void Copy(const File& from, File& to, int64_t offset) {
  std::vector<std::byte> buffer(4 * kBufferBytes);
  const int64_t size = from.Size();
  for (int64_t done = 0; done < size;) {
    const int64_t bytes = std::min(size - done, static_cast<int64_t>(buffer.size()));
    from.ReadAt(done, buffer.data(), bytes);
    to.WriteAt(offset + done, buffer.data(), bytes);
    done += bytes;
  }
}

}  // namespace

ShardWriter::ShardWriter(const std::string& folder, const ShardVocabulary& vocabulary)
    : token_bytes_(TokenBytes(vocabulary.vocab_size)),
      token_spool_(File::Temporary(folder)),
      offset_spool_(File::Temporary(folder)),
      token_buffer_(kBufferBytes) {
  info_.vocab_size = vocabulary.vocab_size;
  info_.eos_id = vocabulary.eos_id;
  info_.tokenizer = vocabulary.tokenizer;
  info_.tokenizer_xxh3 = vocabulary.tokenizer_xxh3;
  offset_buffer_.reserve(kOffsetBuffer);
  offset_buffer_.push_back(0);
}

void ShardWriter::Append(std::span<const int32_t> tokens) {
  const auto width = static_cast<size_t>(token_bytes_);
  while (!tokens.empty()) {
    const size_t count = std::min(tokens.size(), (kBufferBytes - buffered_) / width);
    std::byte* to = token_buffer_.data() + buffered_;
    const std::span<const int32_t> part = tokens.first(count);
    const int64_t largest = token_bytes_ == 2 ? Narrow<uint16_t>(part, to) : Narrow<uint32_t>(part, to);
    if (largest >= info_.vocab_size) {
      const auto bad =
          std::find_if(part.begin(), part.end(), [&](int32_t token) { return token < 0 || token >= info_.vocab_size; });
      Fail(ExitCode::kBadData,
           "token {} at position {} is outside the vocabulary of {} ({})",
           *bad,
           info_.token_count + (bad - part.begin()),
           info_.vocab_size,
           info_.tokenizer);
    }
    info_.max_token = std::max(info_.max_token, largest);
    info_.token_count += static_cast<int64_t>(count);
    buffered_ += count * width;
    tokens = tokens.subspan(count);
    if (buffered_ == kBufferBytes) {
      FlushTokens();
    }
  }
}

void ShardWriter::EndDocument() {
  KSA_CHECK(info_.token_count > document_begin_, "a document without tokens");
  document_begin_ = info_.token_count;
  ++info_.document_count;
  if (offset_buffer_.size() == kOffsetBuffer) {
    FlushOffsets();
  }
  offset_buffer_.push_back(static_cast<uint64_t>(info_.token_count));
}

void ShardWriter::ChunkHashes::Add(std::span<const std::byte> bytes, size_t width) {
  while (!bytes.empty()) {
    const size_t count = std::min(bytes.size(), static_cast<size_t>(tokens - fill) * width);
    current.Update(bytes.data(), count);
    fill += static_cast<int64_t>(count / width);
    bytes = bytes.subspan(count);
    if (fill == tokens) {
      Finish();
    }
  }
}

void ShardWriter::ChunkHashes::Finish() {
  if (fill > 0) {
    hashes.push_back(current.Digest());
    current.Reset();
    fill = 0;
  }
}

void ShardWriter::FlushTokens() {
  const auto width = static_cast<size_t>(token_bytes_);
  const std::span<const std::byte> bytes = std::span(token_buffer_).first(buffered_);
  tokens_hash_.Update(bytes.data(), bytes.size());
  blocks_.Add(bytes, width);
  leaves_.Add(bytes, width);
  token_spool_.Write(token_buffer_.data(), static_cast<int64_t>(buffered_));
  buffered_ = 0;
}

void ShardWriter::FlushOffsets() {
  const size_t bytes = offset_buffer_.size() * sizeof(uint64_t);
  offsets_hash_.Update(offset_buffer_.data(), bytes);
  offset_spool_.Write(offset_buffer_.data(), static_cast<int64_t>(bytes));
  offset_buffer_.clear();
}

TokenFileInfo ShardWriter::Finish(const std::string& path) {
  if (info_.document_count == 0) {
    Fail(ExitCode::kBadData, "{}: a shard without a document would be empty; empty shards are not written", path);
  }
  KSA_CHECK(info_.token_count == document_begin_, "the last document of {} was not ended", path);
  FlushTokens();
  FlushOffsets();
  blocks_.Finish();
  leaves_.Finish();
  const std::vector<uint64_t>& blocks = blocks_.hashes;
  const std::vector<uint64_t>& leaves = leaves_.hashes;
  const auto bytes_of = [](const std::vector<uint64_t>& hashes) { return hashes.size() * sizeof(uint64_t); };
  info_.tokens_xxh3 = tokens_hash_.Digest();
  info_.document_offsets_xxh3 = offsets_hash_.Digest();
  info_.block_xxh3_xxh3 = XXH3_64bits(blocks.data(), bytes_of(blocks));
  info_.leaf_xxh3_xxh3 = XXH3_64bits(leaves.data(), bytes_of(leaves));

  const std::string temporary = path + ".tmp";
  const TokenFilePlaces places = WriteTokenFileFrame(temporary, info_);
  File file = File::OpenForWriting(temporary);
  Copy(token_spool_, file, places.tokens);
  Copy(offset_spool_, file, places.document_offsets);
  file.WriteAt(places.block_xxh3, blocks.data(), static_cast<int64_t>(bytes_of(blocks)));
  file.WriteAt(places.leaf_xxh3, leaves.data(), static_cast<int64_t>(bytes_of(leaves)));
  const uint64_t frame = FrameXxh3(temporary, info_, places);
  file.WriteAt(places.frame_xxh3, &frame, sizeof frame);
  file.Sync();
  file.Close();
  Rename(temporary, path);
  const size_t slash = path.rfind('/');
  SyncFolder(slash == std::string::npos ? "." : path.substr(0, slash));
  return info_;
}

}  // namespace ksa
