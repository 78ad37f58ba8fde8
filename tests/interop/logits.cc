// The program's own logits, for tests/interop/run.sh to compare with another's: logits CKPT IDS OUT. IDS is text, a
// sequence a line; OUT gets the logits of every position of every sequence, fp32, one after the other.
#include <fstream>
#include <iterator>
#include <sstream>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/core/gpu.h"
#include "trainer/commands/session.h"

namespace ksa {
namespace {

void WriteLogits(LoadedModel& loaded, std::vector<int32_t> ids, std::ofstream& out) {
  const ExecContext cx = loaded.runtime().Context();
  const auto length = static_cast<int32_t>(ids.size());
  const Tensor tokens = cx.Empty({length}, DType::kI32);
  CopyFromHost({ids.data(), DType::kI32, {}, {length}}, tokens, cx.stream);
  const Var hidden = loaded.model().Hidden(
      cx, {.ids = tokens, .layout = MakeLayout(loaded.config().model, 1, length), .mix = loaded.mix()});
  const HostCopy logits(loaded.model().Logits(cx, hidden.value), cx.stream);
  out.write(static_cast<const char*>(logits.view().data), logits.view().bytes());
}

int Run(const std::string& checkpoint, const std::string& ids, const std::string& path) {
  LoadedModel loaded(checkpoint, DeviceOption{});
  std::ifstream in(ids);
  std::ofstream out(path, std::ios::binary);
  for (std::string line; std::getline(in, line);) {
    std::istringstream numbers(line);
    WriteLogits(loaded, {std::istream_iterator<int32_t>(numbers), {}}, out);
  }
  out.close();
  return in.eof() && out ? 0 : 1;
}

}  // namespace
}  // namespace ksa

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: logits CKPT IDS OUT\n");
    return 64;
  }
  try {
    return ksa::Run(argv[1], argv[2], argv[3]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
