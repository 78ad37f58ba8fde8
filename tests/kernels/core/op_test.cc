#include "kernels/core/op.h"

#include <string>

#include <gtest/gtest.h>

#include "kernels/core/gpu.h"

namespace ksa {
namespace {

std::string MessageOf(const Stream& stream, const std::function<void()>& body, ExitCode code) {
  try {
    RunOp("Multiply", stream, {{3, 5}, {7}}, NoWork, body);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code);
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return "";
}

// What a device reports says where, not what it computed: the operation and the shapes are added.
TEST(RunOpTest, DeviceErrorsNameTheOperationAndItsShapes) {
  const Stream stream = {.device = {DeviceKind::kCuda, 0}, .dry = true};
  const std::string message = MessageOf(
      stream,
      [] { throw DeviceError(ExitCode::kOutOfMemory, "an illegal memory access from kernel.cu:17"); },
      ExitCode::kOutOfMemory);
  EXPECT_EQ(message.rfind("Multiply on tensors of shapes", 0), 0) << message;
  for (const char* part : {"[3, 5]", "[7]", "an illegal memory access from kernel.cu:17"}) {
    EXPECT_NE(message.find(part), std::string::npos) << part << " is not in: " << message;
  }
}

TEST(RunOpTest, OtherErrorsStayAsTheyAre) {
  const Stream stream = {.device = {DeviceKind::kCuda, 0}, .dry = true};
  const auto fail = [] { Fail(ExitCode::kBadData, "token 9 is not below 5"); };
  EXPECT_EQ(MessageOf(stream, fail, ExitCode::kBadData), "token 9 is not below 5");
  EXPECT_EQ(MessageOf({}, fail, ExitCode::kBadData), "token 9 is not below 5");
}

}  // namespace
}  // namespace ksa
