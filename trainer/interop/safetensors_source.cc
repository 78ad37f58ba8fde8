#include <algorithm>
#include <bit>
#include <cstring>
#include <map>
#include <set>

#include <nlohmann/json.hpp>

#include "data/files/json.h"
#include "data/files/paths.h"
#include "kernels/core/error.h"
#include "kernels/core/host_allocator.h"
#include "trainer/checkpoint/finite.h"
#include "trainer/interop/safetensors.h"

namespace ksa {
namespace {

constexpr int64_t kChunkElements = int64_t{1} << 20;
constexpr int64_t kLongRun = 1024;  // elements of a run from which it is read by itself
constexpr int64_t kMostIndexBytes = int64_t{1} << 26;

// An IEEE half as a float, exactly.
float FromHalf(uint16_t half) {
  const uint32_t sign = (half & 0x8000U) << 16U;
  const uint32_t exponent = (half >> 10U) & 0x1fU;
  const uint32_t mantissa = half & 0x3ffU;
  if (exponent == 0) {
    const float magnitude = static_cast<float>(mantissa) * 0x1p-24F;
    return sign == 0 ? magnitude : -magnitude;
  }
  const uint32_t wide = exponent == 0x1fU ? 0xffU : exponent + 112U;
  return std::bit_cast<float>(sign | (wide << 23U) | (mantissa << 13U));
}

// `bytes` hold `out.size()` elements of `type`.
void Widen(const char* bytes, StoredType type, const TensorView& out) {
  if (type == StoredType::kF32 || type == StoredType::kF64) {
    std::memcpy(out.data, bytes, static_cast<size_t>(out.bytes()));
    return;
  }
  float* const to = out.As<float>();
  for (int64_t i = 0; i < out.size(); ++i) {
    uint16_t bits = 0;
    std::memcpy(&bits, bytes + 2 * i, sizeof bits);
    to[i] = type == StoredType::kF16 ? FromHalf(bits) : std::bit_cast<float>(static_cast<uint32_t>(bits) << 16U);
  }
}

bool IsFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos && name.ends_with(".safetensors");
}

// Tensor to file.
std::map<std::string, std::string> ReadIndex(const std::string& path) {
  const nlohmann::json root = ParseJson(ReadSmallFile(path, kMostIndexBytes), path);
  const auto map = root.is_object() ? root.find("weight_map") : root.end();
  if (map == root.end() || !map->is_object() || map->empty()) {
    Fail(ExitCode::kBadData, "{}: an index of safetensors needs a weight_map from tensors to files", path);
  }
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : map->items()) {
    if (!file.is_string() || !IsFileName(file.get<std::string>())) {
      Fail(ExitCode::kBadData,
           "{}: {} must lie in a .safetensors file of this folder, not in {}",
           path,
           tensor,
           file.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace).substr(0, 200));
    }
    files.emplace(tensor, file.get<std::string>());
  }
  return files;
}

}  // namespace

SafetensorsSource::SafetensorsSource(const std::string& folder) : folder_(folder) {
  const std::string index = folder + "/" + kIndexFile;
  const std::string single = folder + "/" + kSingleFile;
  if (Exists(single) && Exists(index)) {
    Fail(ExitCode::kBadData,
         "{} and {} lie side by side, and programs differ in which one they read; remove one",
         single,
         kIndexFile);
  }
  if (Exists(single)) {
    AddFile(kSingleFile);
  } else if (Exists(index)) {
    const std::map<std::string, std::string> map = ReadIndex(index);
    std::set<std::string> names;
    for (const auto& [tensor, file] : map) {
      if (names.insert(file).second) {
        AddFile(file);
      }
    }
    for (const auto& [tensor, file] : map) {
      const auto place = places_.find(tensor);
      if (place == places_.end() || files_[place->second.file].path() != folder + "/" + file) {
        Fail(ExitCode::kBadData, "{}: {} is not in {}, where the index says it is", index, tensor, file);
      }
    }
    if (map.size() != places_.size()) {
      const auto other = std::find_if(
          tensors_.begin(), tensors_.end(), [&](const TensorInfo& tensor) { return !map.contains(tensor.name); });
      Fail(ExitCode::kBadData, "{}: the shards hold {}, which the index does not name", index, other->name);
    }
  } else {
    Fail(ExitCode::kMissingInput,
         "{}: neither {} nor {} is there; a folder of other weights (pytorch_model.bin) is turned into one by "
         "transformers' save_pretrained",
         folder,
         kSingleFile,
         kIndexFile);
  }
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
}

void SafetensorsSource::AddFile(const std::string& name) {
  const std::string path = folder_ + "/" + name;
  if (KindOf(path) != PathKind::kFile) {
    Fail(ExitCode::kBadData, "{}: this file of the model is missing, or is {}", path, NameOf(KindOf(path)));
  }
  files_.push_back(File::OpenForReading(path));
  const SafetensorsHeader header = ReadSafetensorsHeader(files_.back());
  for (const StoredTensor& tensor : header.tensors) {
    if (!places_.try_emplace(tensor.name, Place{files_.size() - 1, tensor.type, header.data + tensor.begin}).second) {
      Fail(ExitCode::kBadData, "{}: the tensor {} is in another file of the folder as well", path, tensor.name);
    }
    tensors_.push_back({tensor.name, ReadTypeOf(tensor.type), tensor.shape});
  }
}

StoredType SafetensorsSource::TypeOf(const std::string& name) const {
  return places_.at(name).type;
}

void SafetensorsSource::Read(const TensorInfo& tensor, const TensorPart& part, const TensorView& out) {
  if (part.range.size() == 0) {
    return;
  }
  const Place& place = places_.at(tensor.name);
  const PartTarget target(tensor.shape, part, out);
  const HeldRuns& held = target.held();
  if (held.length == held.stride || held.length < kLongRun) {
    ReadRange(tensor, place, target.Span(), target);
    return;
  }
  for (int64_t run = part.range.begin / held.length; run * held.length < part.range.end; ++run) {
    const FlatRange wanted = Intersect({run * held.length, (run + 1) * held.length}, part.range);
    const int64_t begin = held.InWhole(wanted.begin);
    ReadRange(tensor, place, {begin, begin + wanted.size()}, target);
  }
}

void SafetensorsSource::ReadRange(const TensorInfo& tensor,
                                  const Place& place,
                                  const FlatRange& range,
                                  const PartTarget& target) const {
  HostAllocator memory;
  const int64_t element = SizeOf(place.type);
  const int64_t most = std::min(kChunkElements, range.size());
  std::vector<char> bytes(static_cast<size_t>(most * element));
  const Tensor values = Tensor::Empty({most}, tensor.dtype, memory);
  for (int64_t first = range.begin; first < range.end; first += most) {
    const int64_t count = std::min(most, range.end - first);
    const TensorView chunk = values.view().Rows(0, count);
    files_[place.file].ReadAt(place.offset + first * element, bytes.data(), count * element);
    Widen(bytes.data(), place.type, chunk);
    if (const int64_t bad = FirstNotFinite(chunk); bad >= 0) {
      Fail(ExitCode::kBadData,
           "{}: the tensor {} holds values that are not finite (element {})",
           files_[place.file].path(),
           tensor.name,
           first + bad);
    }
    target.Take(chunk, first);
  }
}

}  // namespace ksa
