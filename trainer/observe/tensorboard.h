// TensorBoard event files: records of scalars and texts, without protobuf or TensorFlow.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "trainer/observe/append_file.h"
#include "trainer/observe/step_report.h"

namespace ksa {

// Rank 0 only. Every attempt writes a file of its own in `folder`; readers join them by step.
class TensorboardWriter {
 public:
  explicit TensorboardWriter(const std::string& folder);  // made when missing; Error(kCannotCreate), kIo

  // A text that belongs to the whole run, as it is: the tab Text shows it.
  void WriteText(const std::string& tag, const std::string& text);

  // train/loss, train/grad_norm, train/lr, validation/<source>, task_accuracy/<task>,
  // loss_by_source/<source>, performance/...; in the file, or waits (AppendFile).
  void Write(const StepReport& report);

  [[nodiscard]] const std::string& path() const { return file_.path(); }

  [[nodiscard]] AppendFile& file() { return file_; }

 private:
  AppendFile file_;
};

using Scalar = std::pair<std::string, float>;  // tag, value

// The parts, for tests: CRC-32C, its masked form, a record (length, CRCs, data), and an Event as a protobuf message.
[[nodiscard]] uint32_t Crc32c(std::string_view bytes);
[[nodiscard]] uint32_t MaskedCrc32c(std::string_view bytes);
[[nodiscard]] std::string FrameRecord(std::string_view data);
[[nodiscard]] std::string EncodeFileVersion(double wall_time);
[[nodiscard]] std::string EncodeScalars(double wall_time, int64_t step, const std::vector<Scalar>& scalars);
[[nodiscard]] std::string EncodeText(double wall_time, const std::string& tag, const std::string& markdown);

}  // namespace ksa
