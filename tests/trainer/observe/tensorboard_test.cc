// Event files: checksums and bytes against published and hand-made examples, and a reader of its own.
#include "trainer/observe/tensorboard.h"

#include <bit>
#include <cstring>
#include <map>

#include "tests/trainer/checkpoint/support.h"

namespace ksa::testing {
namespace {

std::string Bytes(std::initializer_list<int> values) {
  std::string bytes;
  for (const int value : values) {
    bytes += static_cast<char>(value);
  }
  return bytes;
}

// Test vectors of RFC 3720, appendix B.4, and the usual check value.
TEST(Crc32c, PublishedVectors) {
  EXPECT_EQ(Crc32c(""), 0U);
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283U);
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aaU);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43U);
  std::string rising;
  for (int i = 0; i < 32; ++i) {
    rising += static_cast<char>(i);
  }
  EXPECT_EQ(Crc32c(rising), 0x46dd794eU);
}

// Written out by hand from the wire format: key = field·8 + type, lengths, little-endian numbers.
TEST(Event, Bytes) {
  EXPECT_EQ(EncodeFileVersion(1.0), Bytes({0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f, 0x1a, 0x0d}) + "brain.Event:2");
  EXPECT_EQ(EncodeScalars(1.0, 300, {{"a", 0.5F}}),
            Bytes({0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}) +                 // wall_time
                Bytes({0x10, 0xac, 0x02}) +                               // step 300
                Bytes({0x2a, 0x0a, 0x0a, 0x08}) +                         // summary { value {
                Bytes({0x0a, 0x01, 'a', 0x15, 0x00, 0x00, 0x00, 0x3f}));  // tag, simple_value
}

// tensorflow/core/framework/summary.proto and tensor.proto: a string tensor without dimensions for the plugin "text".
TEST(Event, TextBytes) {
  EXPECT_EQ(EncodeText(1.0, "a", "hi"),
            Bytes({0x09, 0, 0, 0, 0, 0, 0, 0xf0, 0x3f}) +               // wall_time
                Bytes({0x2a, 0x19, 0x0a, 0x17}) +                       // summary { value {
                Bytes({0x0a, 0x01, 'a'}) +                              // tag
                Bytes({0x4a, 0x08, 0x0a, 0x06, 0x0a, 0x04}) + "text" +  // metadata { plugin_data { plugin_name
                Bytes({0x42, 0x08, 0x08, 0x07, 0x12, 0x00, 0x42, 0x02}) + "hi");  // tensor { DT_STRING, {}, string_val
}

// The smallest reader of the format: other fields than the writer's are errors.
struct Cursor {
  const std::string& bytes;
  size_t at = 0;

  template <typename T>
  T Fixed() {
    T value{};
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
    return value;
  }

  uint64_t Varint() {
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
      const auto byte = static_cast<uint8_t>(bytes[at++]);
      value |= uint64_t{byte & 0x7fU} << shift;
      if (byte < 0x80) {
        return value;
      }
    }
  }

  std::string Text() {
    const uint64_t size = Varint();
    at += size;
    return bytes.substr(at - size, size);
  }
};

struct Event {
  int64_t step = 0;
  std::string version;
  std::map<std::string, float> scalars;
};

void DecodeSummary(const std::string& summary, Event& event) {
  for (Cursor cursor{summary}; cursor.at < summary.size();) {
    EXPECT_EQ(cursor.Varint(), 0x0aU);
    const std::string value = cursor.Text();
    Cursor inner{value};
    EXPECT_EQ(inner.Varint(), 0x0aU);
    const std::string tag = inner.Text();
    EXPECT_EQ(inner.Varint(), 0x15U);
    event.scalars[tag] = inner.Fixed<float>();
  }
}

Event DecodeEvent(const std::string& message) {
  Event event;
  for (Cursor cursor{message}; cursor.at < message.size();) {
    switch (cursor.Varint()) {
      case 0x09:
        EXPECT_GT(cursor.Fixed<double>(), 1e9);
        break;
      case 0x10:
        event.step = static_cast<int64_t>(cursor.Varint());
        break;
      case 0x1a:
        event.version = cursor.Text();
        break;
      case 0x2a:
        DecodeSummary(cursor.Text(), event);
        break;
      default:
        ADD_FAILURE() << "unknown field";
        return event;
    }
  }
  return event;
}

// Unmasked by the inverse of the published formula.
uint32_t Unmask(uint32_t masked) {
  return std::rotl(masked - 0xa282ead8U, 15);
}

std::vector<Event> ReadEvents(const std::string& path) {
  const std::string file = Slurp(path);
  std::vector<Event> events;
  for (Cursor cursor{file}; cursor.at < file.size();) {
    const std::string length = file.substr(cursor.at, 8);
    const auto size = cursor.Fixed<uint64_t>();
    EXPECT_EQ(Unmask(cursor.Fixed<uint32_t>()), Crc32c(length));
    const std::string message = file.substr(cursor.at, size);
    cursor.at += size;
    EXPECT_EQ(Unmask(cursor.Fixed<uint32_t>()), Crc32c(message));
    events.push_back(DecodeEvent(message));
  }
  return events;
}

TEST(Tensorboard, FileReadsBack) {
  const ScratchFolder scratch;
  TensorboardWriter writer(scratch / "run/tensorboard");
  StepReport report;
  report.step = 12345678901;
  report.loss = 2.25;
  report.lr = 1e-3;
  report.validation_loss["books"] = 3.5;
  writer.Write(report);
  report.step = 2;
  report.mfu = 0.5;
  writer.Write(report);
  const std::vector<Event> events = ReadEvents(writer.path());
  ASSERT_EQ(events.size(), 3U);
  EXPECT_EQ(events[0].version, "brain.Event:2");
  EXPECT_EQ(events[1].step, 12345678901);
  EXPECT_EQ(events[1].scalars.at("train/loss"), 2.25F);
  EXPECT_EQ(events[1].scalars.at("train/lr"), 1e-3F);
  EXPECT_EQ(events[1].scalars.at("validation/books"), 3.5F);
  EXPECT_EQ(events[1].scalars.count("performance/mfu"), 0U);
  EXPECT_EQ(events[2].scalars.at("performance/mfu"), 0.5F);
  EXPECT_NE(writer.path().find("/events.out.tfevents."), std::string::npos);
}

TEST(Tensorboard, FolderThatCannotBeMade) {
  const ScratchFolder scratch;
  Spill(scratch / "file", "");
  EXPECT_EQ(ErrorOf([&] { TensorboardWriter(scratch / "file/tensorboard"); }).code(), ExitCode::kCannotCreate);
}

}  // namespace
}  // namespace ksa::testing
