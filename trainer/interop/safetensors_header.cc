#include "trainer/interop/safetensors_header.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <set>
#include <utility>

#include <nlohmann/json.hpp>

#include "kernels/core/error.h"
#include "trainer/checkpoint/tiling.h"

namespace ksa {
namespace {

using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "contents are stored as they lie in memory");

constexpr std::string_view kMetadata = "__metadata__";
constexpr size_t kMostDims = 8;
constexpr size_t kMostNameBytes = 4096;

struct TypeRow {
  StoredType type;
  std::string_view name;
  int64_t bytes;
  DType read;
};

constexpr std::array<TypeRow, 4> kTypes{{{StoredType::kF64, "F64", 8, DType::kF64},
                                         {StoredType::kF32, "F32", 4, DType::kF32},
                                         {StoredType::kF16, "F16", 2, DType::kF32},
                                         {StoredType::kBF16, "BF16", 2, DType::kF32}}};

const TypeRow& RowOf(StoredType type) {
  return kTypes.at(static_cast<size_t>(type));
}

// Takes the events of the parser one by one, so that nothing is built of what is refused.
class HeaderReader final : public nlohmann::json_sax<json> {
 public:
  explicit HeaderReader(const std::string& path) : path_(path) {}

  [[nodiscard]] std::vector<StoredTensor> Take() { return std::move(tensors_); }

  bool key(string_t& name) override {
    if (!keys_.back().insert(name).second) {
      Refuse(fmt::format("the key {} comes twice", Shown(name)));
    }
    if (keys_.size() == 1) {
      if (name.empty() || name.size() > kMostNameBytes) {
        Refuse(fmt::format("a tensor's name has 1 to {} bytes, this has {}", kMostNameBytes, name.size()));
      }
      current_ = {};
      current_.name = name;
      in_metadata_ = name == kMetadata;
    } else if (!in_metadata_ && name != "dtype" && name != "shape" && name != "data_offsets") {
      Refuse(fmt::format("{} has the unknown key {}", Shown(current_.name), Shown(name)));
    }
    field_ = name;
    return true;
  }

  bool start_object(size_t /*elements*/) override {
    if (in_array_ || keys_.size() == 2) {
      Refuse("objects are nested deeper than a tensor's entry");
    }
    keys_.emplace_back();
    return true;
  }

  bool end_object() override {
    const std::set<std::string>& keys = keys_.back();
    if (keys_.size() == 2 && !in_metadata_) {
      if (keys.size() != 3) {
        Refuse(fmt::format("{} needs dtype, shape and data_offsets", Shown(current_.name)));
      }
      if (offsets_.size() != 2) {
        Refuse(fmt::format("{}: data_offsets must be [begin, end]", Shown(current_.name)));
      }
      current_.begin = offsets_[0];
      current_.end = offsets_[1];
      tensors_.push_back(std::move(current_));
      offsets_.clear();
    }
    keys_.pop_back();
    return true;
  }

  bool start_array(size_t /*elements*/) override {
    if (in_array_ || keys_.size() != 2 || in_metadata_ || field_ == "dtype") {
      Refuse(fmt::format("a list stands where none belongs (at {})", Shown(field_)));
    }
    in_array_ = true;
    return true;
  }

  bool end_array() override {
    in_array_ = false;
    return true;
  }

  bool number_unsigned(number_unsigned_t value) override {
    if (!in_array_ || value > uint64_t{1} << 62U) {
      Refuse(fmt::format("the number {} stands where none belongs, or is too large (at {})", value, Shown(field_)));
    }
    std::vector<int64_t>& list = field_ == "shape" ? current_.shape : offsets_;
    if (list.size() == (field_ == "shape" ? kMostDims : 2)) {
      Refuse(fmt::format("{}: {} holds too many numbers", Shown(current_.name), field_));
    }
    list.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool string(string_t& value) override {
    if (in_array_ || keys_.size() != 2 || (!in_metadata_ && field_ != "dtype")) {
      Refuse(fmt::format("a string stands where none belongs (at {})", Shown(field_)));
    }
    if (!in_metadata_) {
      const auto* const row =
          std::find_if(kTypes.begin(), kTypes.end(), [&](const TypeRow& type) { return type.name == value; });
      if (row == kTypes.end()) {
        Refuse(fmt::format(
            "{} has the dtype {}; F16, BF16, F32 and F64 are read here", Shown(current_.name), Shown(value)));
      }
      current_.type = row->type;
    }
    return true;
  }

  bool null() override { return RefuseValue("null"); }

  bool boolean(bool /*value*/) override { return RefuseValue("a truth value"); }

  bool number_integer(number_integer_t /*value*/) override { return RefuseValue("a negative number"); }

  bool number_float(number_float_t /*value*/, const string_t& /*text*/) override { return RefuseValue("a fraction"); }

  bool binary(binary_t& /*value*/) override { return RefuseValue("bytes"); }

  bool parse_error(size_t position, const std::string& /*token*/, const json::exception& /*error*/) override {
    Refuse(fmt::format("not JSON (at byte {})", position));
  }

 private:
  [[noreturn]] void Refuse(const std::string& what) const {
    Fail(ExitCode::kBadData, "{}: the safetensors header: {}", path_, what);
  }

  bool RefuseValue(const char* what) const {
    Refuse(fmt::format("{} stands where none belongs (at {})", what, Shown(field_)));
  }

  // Names are of any length, and may hold anything.
  [[nodiscard]] static std::string Shown(const std::string& text) {
    constexpr size_t kMost = 120;
    return json(text.substr(0, kMost)).dump(-1, ' ', true, json::error_handler_t::replace);
  }

  const std::string& path_;
  std::vector<StoredTensor> tensors_;
  std::vector<std::set<std::string>> keys_;  // that were read of the objects around
  StoredTensor current_;
  std::vector<int64_t> offsets_;
  std::string field_;
  bool in_metadata_ = false;
  bool in_array_ = false;
};

void CheckTiling(const std::vector<StoredTensor>& tensors, int64_t data_bytes, const std::string& path) {
  int64_t covered = 0;
  for (const StoredTensor& tensor : tensors) {
    const int64_t size = CheckedSize(tensor.shape);
    if (size < 0) {
      Fail(ExitCode::kBadData, "{}: {} has an impossible shape, or no elements", path, tensor.name);
    }
    if (tensor.begin > tensor.end || tensor.end - tensor.begin != size * SizeOf(tensor.type)) {
      Fail(ExitCode::kBadData,
           "{}: {} has {} elements of {} and the bytes [{}, {})",
           path,
           tensor.name,
           size,
           NameOf(tensor.type),
           tensor.begin,
           tensor.end);
    }
    if (tensor.begin != covered) {
      Fail(ExitCode::kBadData,
           "{}: the bytes [{}, {}) before {} belong to {}",
           path,
           std::min(covered, tensor.begin),
           std::max(covered, tensor.begin),
           tensor.name,
           tensor.begin > covered ? "no tensor" : "two tensors");
    }
    covered = tensor.end;
  }
  if (covered != data_bytes) {
    Fail(ExitCode::kBadData,
         "{}: its tensors take {} bytes behind the header, the file has {}; it was cut off, or something was added",
         path,
         covered,
         data_bytes);
  }
}

}  // namespace

int64_t SizeOf(StoredType type) {
  return RowOf(type).bytes;
}

std::string_view NameOf(StoredType type) {
  return RowOf(type).name;
}

DType ReadTypeOf(StoredType type) {
  return RowOf(type).read;
}

std::vector<StoredTensor> ParseSafetensorsHeader(std::string_view text, int64_t data_bytes, const std::string& path) {
  if (!text.starts_with('{')) {
    Fail(ExitCode::kBadData, "{}: the safetensors header must begin with '{{'", path);
  }
  HeaderReader reader(path);
  json::sax_parse(text.begin(), text.end(), &reader);
  std::vector<StoredTensor> tensors = reader.Take();
  std::stable_sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  CheckTiling(tensors, data_bytes, path);
  return tensors;
}

SafetensorsHeader ReadSafetensorsHeader(const File& file) {
  const int64_t size = file.Size();
  uint64_t length = 0;
  if (size < static_cast<int64_t>(sizeof length)) {
    Fail(ExitCode::kBadData, "{}: {} bytes are no safetensors file", file.path(), size);
  }
  file.ReadAt(0, &length, sizeof length);
  const int64_t behind = size - static_cast<int64_t>(sizeof length);
  if (length > static_cast<uint64_t>(std::min(behind, kMostHeaderBytes))) {
    Fail(ExitCode::kBadData,
         "{}: a safetensors header of {} bytes; the file has {} behind its length, and at most {} are read",
         file.path(),
         length,
         behind,
         kMostHeaderBytes);
  }
  std::string text(length, '\0');
  file.ReadAt(sizeof length, text.data(), static_cast<int64_t>(length));
  const int64_t data = static_cast<int64_t>(sizeof length + length);
  return {data, ParseSafetensorsHeader(text, size - data, file.path())};
}

std::string RenderSafetensorsHeader(std::vector<StoredTensor>& tensors) {
  std::sort(tensors.begin(), tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return SizeOf(a.type) != SizeOf(b.type) ? SizeOf(a.type) > SizeOf(b.type) : a.name < b.name;
  });
  // Written by hand: the order of keys is part of the form.
  std::string text = R"({"__metadata__":{"format":"pt"})";
  int64_t begin = 0;
  for (StoredTensor& tensor : tensors) {
    tensor.begin = begin;
    tensor.end = begin + CheckedSize(tensor.shape) * SizeOf(tensor.type);
    begin = tensor.end;
    text += fmt::format(R"(,{}:{{"dtype":"{}","shape":{},"data_offsets":[{},{}]}})",
                        json(tensor.name).dump(),
                        NameOf(tensor.type),
                        json(tensor.shape).dump(),
                        tensor.begin,
                        tensor.end);
  }
  text += "}";
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string header(sizeof length, '\0');
  std::memcpy(header.data(), &length, sizeof length);
  return header + text;
}

}  // namespace ksa
