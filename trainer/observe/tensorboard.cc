#include "trainer/observe/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <sstream>

#include <fmt/core.h>

#include "data/files/paths.h"

namespace ksa {
namespace {

constexpr size_t kHostBytes = 256;

double WallTime() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// --- little-endian numbers and protobuf's wire format

template <typename T>
std::string Fixed(T value) {
  std::string bytes(sizeof value, '\0');
  std::memcpy(bytes.data(), &value, sizeof value);
  return bytes;
}

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80U; value >>= 7U) {
    bytes += static_cast<char>((value & 0x7fU) | 0x80U);
  }
  return bytes + static_cast<char>(value);
}

enum class WireType : uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string Key(uint32_t field, WireType type) {
  return Varint(uint64_t{field} << 3U | static_cast<uint32_t>(type));
}

std::string BytesField(uint32_t field, const std::string& bytes) {
  return Key(field, WireType::kBytes) + Varint(bytes.size()) + bytes;
}

// Fields of the messages, by their numbers in the public .proto files.
constexpr uint32_t kEventWallTime = 1;
constexpr uint32_t kEventStep = 2;
constexpr uint32_t kEventFileVersion = 3;
constexpr uint32_t kEventSummary = 5;
constexpr uint32_t kSummaryValue = 1;
constexpr uint32_t kValueTag = 1;
constexpr uint32_t kValueSimple = 2;
constexpr uint32_t kValueTensor = 8;
constexpr uint32_t kValueMetadata = 9;
constexpr uint32_t kMetadataPlugin = 1;
constexpr uint32_t kPluginName = 1;
constexpr uint32_t kTensorType = 1;
constexpr uint32_t kTensorShape = 2;
constexpr uint32_t kTensorStrings = 8;
constexpr uint64_t kTypeString = 7;

std::array<uint32_t, 256> CrcTable() {
  constexpr uint32_t kPolynomial = 0x82f63b78U;  // Castagnoli, bits reversed
  std::array<uint32_t, 256> table{};
  for (uint32_t i = 0; i < table.size(); ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) {
      crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? kPolynomial : 0U);
    }
    table[i] = crc;
  }
  return table;
}

std::string EventFileName(const std::string& folder) {
  std::array<char, kHostBytes> host{};
  if (gethostname(host.data(), host.size() - 1) != 0) {
    host = {'h', 'o', 's', 't'};
  }
  return fmt::format(
      "{}/events.out.tfevents.{}.{}.{}", folder, static_cast<int64_t>(WallTime()), host.data(), getpid());
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = CrcTable();
  uint32_t crc = ~uint32_t{0};
  for (const char byte : bytes) {
    crc = (crc >> 8U) ^ table[(crc ^ static_cast<uint8_t>(byte)) & 0xffU];
  }
  return ~crc;
}

uint32_t MaskedCrc32c(std::string_view bytes) {
  constexpr uint32_t kDelta = 0xa282ead8U;
  return std::rotr(Crc32c(bytes), 15) + kDelta;
}

std::string FrameRecord(std::string_view data) {
  const std::string length = Fixed(uint64_t{data.size()});
  return length + Fixed(MaskedCrc32c(length)) + std::string(data) + Fixed(MaskedCrc32c(data));
}

std::string EncodeFileVersion(double wall_time) {
  return Key(kEventWallTime, WireType::kFixed64) + Fixed(wall_time) + BytesField(kEventFileVersion, "brain.Event:2");
}

std::string EncodeScalars(double wall_time, int64_t step, const std::vector<Scalar>& scalars) {
  std::string summary;
  for (const auto& [tag, value] : scalars) {
    summary +=
        BytesField(kSummaryValue, BytesField(kValueTag, tag) + Key(kValueSimple, WireType::kFixed32) + Fixed(value));
  }
  return Key(kEventWallTime, WireType::kFixed64) + Fixed(wall_time) + Key(kEventStep, WireType::kVarint) +
         Varint(static_cast<uint64_t>(step)) + BytesField(kEventSummary, summary);
}

std::string EncodeText(double wall_time, const std::string& tag, const std::string& markdown) {
  const std::string plugin = BytesField(kMetadataPlugin, BytesField(kPluginName, "text"));
  const std::string tensor = Key(kTensorType, WireType::kVarint) + Varint(kTypeString) + BytesField(kTensorShape, "") +
                             BytesField(kTensorStrings, markdown);
  const std::string value =
      BytesField(kValueTag, tag) + BytesField(kValueMetadata, plugin) + BytesField(kValueTensor, tensor);
  return Key(kEventWallTime, WireType::kFixed64) + Fixed(wall_time) +
         BytesField(kEventSummary, BytesField(kSummaryValue, value));
}

namespace {

// Markdown shows lines that are indented as they are.
std::string Indented(const std::string& text) {
  std::istringstream lines(text);
  std::string indented;
  for (std::string line; std::getline(lines, line);) {
    indented += "    " + line + "\n";
  }
  return indented;
}

std::string InFolder(const std::string& folder) {
  MakeFolders(folder);
  return EventFileName(folder);
}

}  // namespace

TensorboardWriter::TensorboardWriter(const std::string& folder) : file_(InFolder(folder), AppendFile::Kind::kLog) {
  file_.Append(FrameRecord(EncodeFileVersion(WallTime())));
}

void TensorboardWriter::WriteText(const std::string& tag, const std::string& text) {
  file_.Append(FrameRecord(EncodeText(WallTime(), tag, Indented(text))));
}

void TensorboardWriter::Write(const StepReport& report) {
  std::vector<Scalar> scalars;
  const auto add = [&](const std::string& tag, double value) { scalars.emplace_back(tag, static_cast<float>(value)); };
  add("train/loss", report.loss);
  add("train/grad_norm", report.grad_norm);
  add("train/lr", report.lr);
  for (const auto& [name, value] : report.loss_terms) {
    add("train/loss_" + name, value);
  }
  add("train/max_logit", report.max_logit);
  if (std::isfinite(report.max_attention_lse)) {
    add("train/max_attention_lse", report.max_attention_lse);
  }
  for (const auto& [name, loss] : report.validation_loss) {
    add("validation/" + name, loss);
  }
  for (const auto& [name, accuracy] : report.task_accuracy) {
    add("task_accuracy/" + name, accuracy);
  }
  for (const auto& [name, loss] : report.loss_by_source) {
    add("loss_by_source/" + name, loss);
  }
  add("performance/tokens_per_second", report.tokens_per_second);
  if (report.mfu) {
    add("performance/mfu", *report.mfu);
  }
  add("performance/step_ms", report.step_ms);
  add("performance/memory_gib", static_cast<double>(report.memory) / (1024.0 * 1024.0 * 1024.0));
  add("performance/data_wait_ms", report.data_wait_ms);
  add("performance/comm_wait_ms", report.comm_wait_ms);
  add("progress/tokens", static_cast<double>(report.tokens));
  file_.Append(FrameRecord(EncodeScalars(WallTime(), report.step, scalars)));
}

}  // namespace ksa
