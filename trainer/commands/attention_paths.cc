#include "trainer/commands/attention_paths.h"

namespace ksa {
namespace {

bool IsTensorCoreHead(const AttentionHead& head) {
  return head == AttentionHead{64, 64} || head == AttentionHead{128, 128} || head == AttentionHead{192, 128};
}

}  // namespace

const std::map<std::string, AttentionPath>& AttentionPathNames() {
  static const std::map<std::string, AttentionPath> names = {{"auto", AttentionPath::kAuto},
                                                             {"plain", AttentionPath::kPlain},
                                                             {"mma", AttentionPath::kMma},
                                                             {"wgmma", AttentionPath::kWgmma},
                                                             {"cudnn", AttentionPath::kCudnn}};
  return names;
}

std::string NameOf(AttentionPath path) {
  for (const auto& [name, value] : AttentionPathNames()) {
    if (value == path) {
      return name;
    }
  }
  return "unknown";
}

std::string_view WhyNotPath(AttentionPath path,
                            const std::optional<GpuInfo>& gpu,
                            DType dtype,
                            const AttentionHead& head) {
  if (path == AttentionPath::kAuto) {
    return "";
  }
  if (!gpu.has_value()) {
    return "it runs on a GPU; on the CPU there is auto alone";
  }
  if (path == AttentionPath::kCudnn) {
    return "cuDNN has no mask of ksa; it is measured on full causal attention where it is built in";
  }
  if (path != AttentionPath::kPlain && (dtype != DType::kBF16 || !IsTensorCoreHead(head))) {
    return "it needs bf16 and a head dim of 64 or 128, or keys of 192 with values of 128";
  }
  if (path == AttentionPath::kWgmma && gpu->major != 9) {
    return "it needs a GPU of compute capability 9";
  }
  return "";
}

AttentionPaths DefaultAttentionPaths(const std::optional<GpuInfo>& gpu, DType dtype, const AttentionHead& head) {
  AttentionPaths paths = {{AttentionPath::kAuto}, {AttentionPath::kAuto}};
  if (gpu.has_value() && WhyNotPath(AttentionPath::kWgmma, gpu, dtype, head).empty()) {
    paths.ksa = {AttentionPath::kMma, AttentionPath::kWgmma};
    if (AttentionPathIsBuilt(AttentionPath::kCudnn)) {
      paths.full.push_back(AttentionPath::kCudnn);
    }
  }
  return paths;
}

}  // namespace ksa
