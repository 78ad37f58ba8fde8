#include "trainer/commands/attention_paths.h"

namespace ksa {

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

AttentionPaths DefaultAttentionPaths(const std::optional<GpuInfo>& gpu, DType dtype, int32_t head_dim) {
  AttentionPaths paths = {{AttentionPath::kAuto}, {AttentionPath::kAuto}};
  if (gpu.has_value() && gpu->major == 9 && dtype == DType::kBF16 && (head_dim == 64 || head_dim == 128)) {
    paths.ksa = {AttentionPath::kMma, AttentionPath::kWgmma};
    if (AttentionPathIsBuilt(AttentionPath::kCudnn)) {
      paths.full.push_back(AttentionPath::kCudnn);
    }
  }
  return paths;
}

}  // namespace ksa
