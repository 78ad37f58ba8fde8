#include "trainer/checkpoint/manifest.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <map>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>
#include <xxhash.h>

#include "data/files/json.h"
#include "data/tokenizers/tokenizer.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

using nlohmann::json;

constexpr std::string_view kFormat = "ksa-checkpoint";
constexpr int64_t kVersion = 1;
constexpr size_t kMostDims = Shape::kMaxRank;

std::string HexOf(uint64_t value) {
  return fmt::format("{:016x}", value);
}

std::string Dump(const json& value, int indent = -1) {
  return value.dump(indent, ' ', false, json::error_handler_t::replace);
}

// Over everything but the tensors, which their own hashes and the tiling protect, and the mesh, which is information
// only. Keys are sorted and numbers are integers, so the text of equal values is equal.
std::string HeaderHash(json header) {
  header.erase("tensors");
  header.erase("mesh");
  header.erase("header_xxh3");
  const std::string text = Dump(header);
  return HexOf(XXH3_64bits(text.data(), text.size()));
}

// --- writing

json PieceJson(const TensorPiece& piece) {
  return {{"offset", piece.offset},
          {"shape", piece.shape},
          {"flat", {piece.flat.begin, piece.flat.end}},
          {"file", piece.file},
          {"dataset", piece.dataset},
          {"xxh3", HexOf(piece.xxh3)}};
}

json TensorJson(const TensorEntry& tensor) {
  json pieces = json::array();
  for (const TensorPiece& piece : tensor.pieces) {
    pieces.push_back(PieceJson(piece));
  }
  return {{"name", tensor.name}, {"dtype", NameOf(tensor.dtype)}, {"shape", tensor.shape}, {"pieces", pieces}};
}

// --- reading

// One object of the manifest and where it stands, for messages. The keys that were read are all it may hold.
class Object {
 public:
  Object(const json& value, std::string place, const std::string& path)
      : value_(value), place_(std::move(place)), path_(path) {
    if (!value.is_object()) {
      Refuse("an object was expected");
    }
  }

  [[noreturn]] void Refuse(const std::string& what) const {
    Fail(ExitCode::kBadData, "{}: {}: {}", path_, place_, what);
  }

  const json& At(const char* key) {
    const auto found = value_.find(key);
    if (found == value_.end()) {
      Refuse(fmt::format("the key {} is missing", key));
    }
    read_.insert(key);
    return *found;
  }

  [[nodiscard]] bool Has(const char* key) const { return value_.contains(key); }

  std::string Text(const char* key) {
    const json& value = At(key);
    if (!value.is_string()) {
      Refuse(fmt::format("{} must be a string", key));
    }
    return value.get<std::string>();
  }

  int64_t Count(const char* key) { return AsCount(At(key), key); }

  std::vector<int64_t> Counts(const char* key) {
    const json& value = At(key);
    if (!value.is_array()) {
      Refuse(fmt::format("{} must be an array of integers", key));
    }
    std::vector<int64_t> counts;
    for (const json& element : value) {
      counts.push_back(AsCount(element, key));
    }
    return counts;
  }

  // Finite and not negative.
  std::vector<double> Numbers(const char* key) {
    const json& value = At(key);
    if (!value.is_array()) {
      Refuse(fmt::format("{} must be an array of numbers", key));
    }
    std::vector<double> numbers;
    for (const json& element : value) {
      if (!element.is_number() || !std::isfinite(element.get<double>()) || element.get<double>() < 0) {
        Refuse(fmt::format("{} must hold finite numbers from 0 on", key));
      }
      numbers.push_back(element.get<double>());
    }
    return numbers;
  }

  uint64_t Hash(const char* key) {
    const std::string text = Text(key);
    uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, 16);
    if (text.size() != 16 || error != std::errc() || end != text.data() + text.size() || HexOf(value) != text) {
      Refuse(fmt::format("{} must be 16 hexadecimal digits in lower case", key));
    }
    return value;
  }

  void RefuseOtherKeys() const {
    for (const auto& [key, unused] : value_.items()) {
      if (!read_.contains(key)) {
        Refuse(fmt::format("the key {} is unknown", key));
      }
    }
  }

 private:
  [[nodiscard]] int64_t AsCount(const json& value, const char* key) const {
    if (!value.is_number_integer() || (value.is_number_unsigned() && value.get<uint64_t>() > uint64_t{1} << 62U) ||
        value.get<int64_t>() < 0) {
      Refuse(fmt::format("{} must hold integers from 0 on", key));
    }
    return value.get<int64_t>();
  }

  const json& value_;
  std::string place_;
  const std::string& path_;
  std::set<std::string> read_;
};

// A path below the checkpoint's folder: no root, no "..", no empty part.
bool StaysInside(const std::string& path) {
  if (path.empty() || path.find('\0') != std::string::npos) {
    return false;
  }
  size_t begin = 0;
  while (begin <= path.size()) {
    const size_t end = std::min(path.find('/', begin), path.size());
    const std::string part = path.substr(begin, end - begin);
    if (part.empty() || part == "." || part == "..") {
      return false;
    }
    begin = end + 1;
  }
  return true;
}

TensorPiece ReadPiece(const json& value, const std::string& tensor, const std::string& path) {
  Object object(value, "a piece of " + tensor, path);
  TensorPiece piece;
  piece.offset = object.Counts("offset");
  piece.shape = object.Counts("shape");
  const std::vector<int64_t> flat = object.Counts("flat");
  if (flat.size() != 2) {
    object.Refuse("flat must be [begin, end]");
  }
  piece.flat = {flat[0], flat[1]};
  piece.file = object.Text("file");
  piece.dataset = object.Text("dataset");
  piece.xxh3 = object.Hash("xxh3");
  if (!StaysInside(piece.file)) {
    object.Refuse(fmt::format("the file name '{}' does not stay in the checkpoint's folder", piece.file));
  }
  if (piece.dataset.empty() || piece.dataset.find('\0') != std::string::npos) {
    object.Refuse("the dataset has no name");
  }
  object.RefuseOtherKeys();
  return piece;
}

TensorEntry ReadTensor(const json& value, const std::string& path) {
  Object object(value, "a tensor", path);
  TensorEntry tensor;
  tensor.name = object.Text("name");
  const std::string dtype = object.Text("dtype");
  if (dtype != NameOf(DType::kF32) && dtype != NameOf(DType::kF64)) {
    object.Refuse(fmt::format("{}: dtype must be fp32 or fp64, not '{}'", tensor.name, dtype));
  }
  tensor.dtype = dtype == NameOf(DType::kF64) ? DType::kF64 : DType::kF32;
  tensor.shape = object.Counts("shape");
  if (tensor.shape.empty() || tensor.shape.size() > kMostDims || tensor.size() < 0) {
    object.Refuse(fmt::format("{}: impossible shape", tensor.name));
  }
  const json& pieces = object.At("pieces");
  if (!pieces.is_array()) {
    object.Refuse(fmt::format("{}: pieces must be an array", tensor.name));
  }
  for (const json& piece : pieces) {
    tensor.pieces.push_back(ReadPiece(piece, tensor.name, path));
  }
  object.RefuseOtherKeys();
  return tensor;
}

std::vector<TensorEntry> ReadTensors(const json& value, const std::string& path) {
  if (!value.is_array()) {
    Fail(ExitCode::kBadData, "{}: tensors must be an array", path);
  }
  std::vector<TensorEntry> tensors;
  for (const json& tensor : value) {
    tensors.push_back(ReadTensor(tensor, path));
  }
  return tensors;
}

CheckpointMeta ReadMeta(Object& object, const std::string& path) {
  CheckpointMeta meta;
  meta.run_id = object.Text("run_id");
  meta.step = object.Count("step");
  meta.tokens = object.Count("tokens");
  meta.samples = object.Count("samples");
  Object mesh(object.At("mesh"), "mesh", path);
  meta.mesh = {mesh.Count("data"), mesh.Count("context"), mesh.Count("tensor")};
  mesh.RefuseOtherKeys();
  meta.configuration = object.Text("configuration");
  meta.data_fingerprint = object.Text("data_fingerprint");
  if (object.Has("tokenizer")) {
    Object copy(object.At("tokenizer"), "tokenizer", path);
    meta.tokenizer = {copy.Text("file"), copy.Hash("xxh3")};
    if (!IsTokenizerFile(meta.tokenizer->file)) {
      copy.Refuse(fmt::format("'{}' is no name of a tokenizer's file", meta.tokenizer->file));
    }
    copy.RefuseOtherKeys();
  }
  if (object.Has("resumed_from")) {
    Object origin(object.At("resumed_from"), "resumed_from", path);
    meta.resumed_from = {origin.Text("run_id"), origin.Count("step")};
    origin.RefuseOtherKeys();
  }
  if (object.Has("recent_grad_norms")) {
    meta.recent_grad_norms = object.Numbers("recent_grad_norms");
  }
  if (object.Has("skips_in_a_row")) {
    meta.skips_in_a_row = object.Count("skips_in_a_row");
  }
  return meta;
}

// Moments belong to weights of the same dtype and shape, and come in pairs; no name comes twice.
void CheckCompanions(const std::vector<TensorEntry>& tensors, const std::string& path) {
  std::map<std::string, const TensorEntry*> by_name;
  for (const TensorEntry& tensor : tensors) {
    if (!by_name.emplace(tensor.name, &tensor).second) {
      Fail(ExitCode::kBadData, "{}: the tensor {} comes twice", path, tensor.name);
    }
  }
  const auto need = [&](const TensorEntry& tensor, const std::string& other) {
    const auto found = by_name.find(other);
    if (found == by_name.end() || found->second->dtype != tensor.dtype || found->second->shape != tensor.shape) {
      Fail(ExitCode::kBadData, "{}: {} needs a tensor {} of the same dtype and shape", path, tensor.name, other);
    }
  };
  for (const TensorEntry& tensor : tensors) {
    const size_t slash = tensor.name.find('/');
    const std::string kind = tensor.name.substr(0, slash);
    const std::string parameter = slash == std::string::npos ? "" : tensor.name.substr(slash + 1);
    if (parameter.empty() || (kind != "weights" && kind != "exp_avg" && kind != "exp_avg_sq")) {
      Fail(ExitCode::kBadData,
           "{}: the tensor name '{}' is not weights/N, exp_avg/N or exp_avg_sq/N",
           path,
           tensor.name);
    }
    if (kind != "weights") {
      need(tensor, "weights/" + parameter);
      need(tensor, (kind == "exp_avg" ? "exp_avg_sq/" : "exp_avg/") + parameter);
    }
  }
}

}  // namespace

int64_t TensorEntry::size() const {
  return CheckedSize(shape);
}

const TensorEntry* Manifest::Find(std::string_view name) const {
  const auto found =
      std::find_if(tensors.begin(), tensors.end(), [&](const TensorEntry& tensor) { return tensor.name == name; });
  return found == tensors.end() ? nullptr : &*found;
}

std::string RenderManifest(const Manifest& manifest) {
  const CheckpointMeta& meta = manifest.meta;
  json root = {{"format", kFormat},
               {"version", kVersion},
               {"run_id", meta.run_id},
               {"step", meta.step},
               {"tokens", meta.tokens},
               {"samples", meta.samples},
               {"mesh", {{"data", meta.mesh.data}, {"context", meta.mesh.context}, {"tensor", meta.mesh.tensor}}},
               {"configuration", meta.configuration},
               {"data_fingerprint", meta.data_fingerprint}};
  if (meta.tokenizer.has_value()) {
    root["tokenizer"] = {{"file", meta.tokenizer->file}, {"xxh3", HexOf(meta.tokenizer->xxh3)}};
  }
  if (meta.resumed_from.has_value()) {
    root["resumed_from"] = {{"run_id", meta.resumed_from->run_id}, {"step", meta.resumed_from->step}};
  }
  if (!meta.recent_grad_norms.empty()) {
    root["recent_grad_norms"] = meta.recent_grad_norms;
  }
  if (meta.skips_in_a_row > 0) {
    root["skips_in_a_row"] = meta.skips_in_a_row;
  }
  root["header_xxh3"] = HeaderHash(root);
  json tensors = json::array();
  for (const TensorEntry& tensor : manifest.tensors) {
    tensors.push_back(TensorJson(tensor));
  }
  root["tensors"] = std::move(tensors);
  return Dump(root, 1) + "\n";
}

Manifest ParseManifest(const std::string& text, const std::string& path) {
  const json root = ParseJson(text, path);
  Object object(root, "manifest", path);
  if (!object.Has("format") || object.Text("format") != kFormat) {
    object.Refuse("this is not the manifest of a checkpoint (format = ksa-checkpoint)");
  }
  if (const int64_t version = object.Count("version"); version != kVersion) {
    object.Refuse(fmt::format("version {}; this program reads version {}", version, kVersion));
  }
  if (object.Has("header_xxh3") && object.Text("header_xxh3") != HeaderHash(root)) {
    object.Refuse("header_xxh3 does not match: the manifest was changed or damaged");
  }
  Manifest manifest;
  manifest.meta = ReadMeta(object, path);
  manifest.tensors = ReadTensors(object.At("tensors"), path);
  object.RefuseOtherKeys();
  CheckCompanions(manifest.tensors, path);
  for (const TensorEntry& tensor : manifest.tensors) {
    if (const std::string fault = TilingFault(tensor); !fault.empty()) {
      Fail(ExitCode::kBadData, "{}: {}: {}", path, tensor.name, fault);
    }
  }
  return manifest;
}

std::string RenderTensors(const std::vector<TensorEntry>& tensors) {
  json list = json::array();
  for (const TensorEntry& tensor : tensors) {
    list.push_back(TensorJson(tensor));
  }
  return Dump(list);
}

std::vector<TensorEntry> ParseTensors(const std::string& text, const std::string& path) {
  return ReadTensors(ParseJson(text, path), path);
}

}  // namespace ksa
