#include "data/shards/token_file.h"

#include <utility>
#include <vector>

#include "data/files/frame_hash.h"
#include "data/files/hdf5_handle.h"
#include "data/files/posix_file.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

constexpr const char* kFormat = "ksa-tokens";
constexpr int64_t kVersion = 1;
constexpr hsize_t kAlignment = 4096;

hid_t TokenType(int64_t vocab_size) {
  return TokenBytes(vocab_size) == 2 ? H5T_STD_U16LE : H5T_STD_U32LE;
}

// --- writing

void WriteNumber(const Hdf5Context& context, hid_t file, const char* name, hid_t stored, uint64_t value) {
  Hdf5Handle space(context, H5Screate(H5S_SCALAR), H5Sclose, "a scalar space");
  Hdf5Handle attribute(context, H5Acreate2(file, name, stored, space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
  context.Check(H5Awrite(attribute.id(), H5T_NATIVE_UINT64, &value), name);
  attribute.Close();
}

void WriteText(const Hdf5Context& context, hid_t file, const char* name, const std::string& value) {
  Hdf5Handle type(context, H5Tcopy(H5T_C_S1), H5Tclose, "a string type");
  context.Check(H5Tset_size(type.id(), value.size() + 1), "a string type");
  context.Check(H5Tset_cset(type.id(), H5T_CSET_UTF8), "a string type");
  Hdf5Handle space(context, H5Screate(H5S_SCALAR), H5Sclose, "a scalar space");
  Hdf5Handle attribute(
      context, H5Acreate2(file, name, type.id(), space.id(), H5P_DEFAULT, H5P_DEFAULT), H5Aclose, name);
  context.Check(H5Awrite(attribute.id(), type.id(), value.c_str()), name);
  attribute.Close();
}

int64_t CreateDataset(const Hdf5Context& context, hid_t file, const char* name, hid_t type, int64_t count) {
  const auto dims = static_cast<hsize_t>(count);
  Hdf5Handle space(context, H5Screate_simple(1, &dims, nullptr), H5Sclose, "a space");
  Hdf5Handle properties(context, H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "dataset properties");
  context.Check(H5Pset_layout(properties.id(), H5D_CONTIGUOUS), "the layout");
  context.Check(H5Pset_alloc_time(properties.id(), H5D_ALLOC_TIME_EARLY), "the allocation time");
  context.Check(H5Pset_obj_track_times(properties.id(), false), "the time tracking");
  context.Check(H5Pset_fill_time(properties.id(), H5D_FILL_TIME_NEVER), "the fill time");
  Hdf5Handle dataset(
      context, H5Dcreate2(file, name, type, space.id(), H5P_DEFAULT, properties.id(), H5P_DEFAULT), H5Dclose, name);
  const haddr_t offset = H5Dget_offset(dataset.id());
  if (offset == HADDR_UNDEF) {
    context.FailWith(fmt::format("dataset {} has no place in the file", name));
  }
  dataset.Close();
  return static_cast<int64_t>(offset);
}

// Without locks, whether a file is read or written: where they are missing HDF5 would refuse the file.
Hdf5Handle AccessProperties(const Hdf5Context& context) {
  const hid_t properties = H5Pcreate(H5P_FILE_ACCESS);
  if (properties >= 0) {
    context.Check(H5Pset_file_locking(properties, false, true), "the locking mode");
  }
  return {context, properties, H5Pclose, "file access properties"};
}

// --- reading

uint64_t ReadNumber(const Hdf5Context& context, hid_t file, const char* name) {
  Hdf5Handle attribute(context, H5Aopen(file, name, H5P_DEFAULT), H5Aclose, name);
  Hdf5Handle type(context, H5Aget_type(attribute.id()), H5Tclose, name);
  Hdf5Handle space(context, H5Aget_space(attribute.id()), H5Sclose, name);
  if (H5Tget_class(type.id()) != H5T_INTEGER || H5Tget_size(type.id()) > 8 ||
      H5Sget_simple_extent_npoints(space.id()) != 1) {
    context.FailWith(fmt::format("attribute {} is not one integer", name));
  }
  uint64_t value = 0;
  context.Check(H5Aread(attribute.id(), H5T_NATIVE_UINT64, &value), name);
  return value;
}

int64_t ReadCount(const Hdf5Context& context, hid_t file, const char* name) {
  const uint64_t value = ReadNumber(context, file, name);
  if (value > uint64_t{1} << 62U) {
    context.FailWith(fmt::format("attribute {} = {} is out of range", name, value));
  }
  return static_cast<int64_t>(value);
}

std::string ReadText(const Hdf5Context& context, hid_t file, const char* name) {
  constexpr size_t kMost = 4096;
  Hdf5Handle attribute(context, H5Aopen(file, name, H5P_DEFAULT), H5Aclose, name);
  Hdf5Handle type(context, H5Aget_type(attribute.id()), H5Tclose, name);
  const size_t size = H5Tget_size(type.id());
  if (H5Tget_class(type.id()) != H5T_STRING || H5Tis_variable_str(type.id()) != 0 || size == 0 || size > kMost) {
    context.FailWith(fmt::format("attribute {} is not a short string of fixed length", name));
  }
  std::vector<char> text(size + 1, '\0');
  context.Check(H5Aread(attribute.id(), type.id(), text.data()), name);
  return text.data();
}

// One dataset as a place to map: see ReadTokenFileFrame.
int64_t FindDataset(
    const Hdf5Context& context, hid_t file, const char* name, hid_t type, int64_t count, int64_t bytes) {
  H5L_info_t link;
  context.Check(H5Lget_info(file, name, &link, H5P_DEFAULT), name);
  if (link.type != H5L_TYPE_HARD) {
    context.FailWith(fmt::format("{} is a link; a shard must hold its own data", name));
  }
  Hdf5Handle dataset(context, H5Dopen2(file, name, H5P_DEFAULT), H5Dclose, name);
  Hdf5Handle properties(context, H5Dget_create_plist(dataset.id()), H5Pclose, name);
  Hdf5Handle stored(context, H5Dget_type(dataset.id()), H5Tclose, name);
  Hdf5Handle space(context, H5Dget_space(dataset.id()), H5Sclose, name);
  if (H5Pget_layout(properties.id()) != H5D_CONTIGUOUS || H5Pget_nfilters(properties.id()) != 0 ||
      H5Pget_external_count(properties.id()) != 0) {
    context.FailWith(fmt::format("{} must be contiguous, unfiltered and stored in the file itself", name));
  }
  if (H5Tequal(stored.id(), type) <= 0) {
    context.FailWith(fmt::format("{} has another element type than u{}", name, 8 * H5Tget_size(type)));
  }
  if (H5Sget_simple_extent_ndims(space.id()) != 1 || H5Sget_simple_extent_npoints(space.id()) != count) {
    context.FailWith(fmt::format("{} must be a vector of {} elements", name, count));
  }
  const auto element = static_cast<int64_t>(H5Tget_size(type));
  const haddr_t offset = H5Dget_offset(dataset.id());
  const auto end = static_cast<haddr_t>(bytes);
  if (offset == HADDR_UNDEF || offset % 8 != 0 || offset > end ||
      static_cast<haddr_t>(count) > (end - offset) / static_cast<haddr_t>(element)) {
    context.FailWith(fmt::format("{} does not lie in the file", name));
  }
  return static_cast<int64_t>(offset);
}

TokenFileInfo ReadInfo(const Hdf5Context& context, hid_t file) {
  if (H5Aexists(file, "format") <= 0 || ReadText(context, file, "format") != kFormat) {
    context.FailWith("this HDF5 file is not a token shard (no attribute format = ksa-tokens)");
  }
  const int64_t version = ReadCount(context, file, "version");
  if (version != kVersion) {
    context.FailWith(fmt::format("token shard of version {}; this program reads version {}", version, kVersion));
  }
  TokenFileInfo info;
  info.vocab_size = ReadCount(context, file, "vocab_size");
  info.max_token = ReadCount(context, file, "max_token");
  info.eos_id = ReadCount(context, file, "eos_id");
  info.token_count = ReadCount(context, file, "token_count");
  info.document_count = ReadCount(context, file, "document_count");
  info.tokenizer = ReadText(context, file, "tokenizer");
  info.tokenizer_xxh3 = ReadNumber(context, file, "tokenizer_xxh3");
  info.tokens_xxh3 = ReadNumber(context, file, "tokens_xxh3");
  info.document_offsets_xxh3 = ReadNumber(context, file, "document_offsets_xxh3");
  info.block_xxh3_xxh3 = ReadNumber(context, file, "block_xxh3_xxh3");
  if (H5Aexists(file, "leaf_xxh3_xxh3") > 0) {
    info.leaf_xxh3_xxh3 = ReadNumber(context, file, "leaf_xxh3_xxh3");
  }
  if (info.token_count < 1 || info.document_count < 1 || info.document_count > info.token_count ||
      info.vocab_size < 1 || info.vocab_size > (int64_t{1} << 31) || info.max_token >= info.vocab_size ||
      info.eos_id >= info.vocab_size) {
    context.FailWith(
        fmt::format("impossible attributes: {} tokens, {} documents, largest token {}, eos {}, vocabulary {}",
                    info.token_count,
                    info.document_count,
                    info.max_token,
                    info.eos_id,
                    info.vocab_size));
  }
  return info;
}

// The bytes that the datasets take.
std::vector<ByteRange> DatasetRanges(const TokenFileInfo& info, const TokenFilePlaces& places) {
  std::vector<ByteRange> ranges;
  const auto add = [&](int64_t begin, int64_t count, int64_t element) {
    if (begin > 0) {  // 0 is the superblock's place: the dataset is not there
      ranges.push_back({begin, begin + count * element});
    }
  };
  add(places.tokens, info.token_count, TokenBytes(info.vocab_size));
  add(places.document_offsets, info.document_count + 1, 8);
  add(places.block_xxh3, BlocksOf(info.token_count), 8);
  add(places.leaf_xxh3, LeavesOf(info.token_count), 8);
  add(places.frame_xxh3, 1, 8);
  return ranges;
}

}  // namespace

uint64_t FrameXxh3(const std::string& path, const TokenFileInfo& info, const TokenFilePlaces& places) {
  return HashOutside(File::OpenForReading(path), DatasetRanges(info, places));
}

TokenFilePlaces WriteTokenFileFrame(const std::string& path, const TokenFileInfo& info) {
  PrepareHdf5();
  const Hdf5Context context{path, ExitCode::kIo};
  File::Create(path).Close();  // what the system says about a new file is said here, not by HDF5
  Hdf5Handle properties = AccessProperties(context);
  context.Check(H5Pset_libver_bounds(properties.id(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST), "the format version");
  context.Check(H5Pset_alignment(properties.id(), 1, kAlignment), "the alignment");
  // Without the times of writing, equal contents are equal files.
  Hdf5Handle root(context, H5Pcreate(H5P_FILE_CREATE), H5Pclose, "file creation properties");
  context.Check(H5Pset_obj_track_times(root.id(), false), "the time tracking");
  Hdf5Handle file(
      context, H5Fcreate(path.c_str(), H5F_ACC_TRUNC, root.id(), properties.id()), H5Fclose, "creating the file");
  TokenFilePlaces places;
  const hid_t type = TokenType(info.vocab_size);
  places.tokens = CreateDataset(context, file.id(), "tokens", type, info.token_count);
  places.document_offsets =
      CreateDataset(context, file.id(), "document_offsets", H5T_STD_U64LE, info.document_count + 1);
  places.block_xxh3 = CreateDataset(context, file.id(), "block_xxh3", H5T_STD_U64LE, BlocksOf(info.token_count));
  places.leaf_xxh3 = CreateDataset(context, file.id(), "leaf_xxh3", H5T_STD_U64LE, LeavesOf(info.token_count));
  places.frame_xxh3 = CreateDataset(context, file.id(), "frame_xxh3", H5T_STD_U64LE, 1);
  const auto number = [&](const char* name, int64_t value) {
    WriteNumber(context, file.id(), name, H5T_STD_U64LE, static_cast<uint64_t>(value));
  };
  WriteText(context, file.id(), "format", kFormat);
  number("version", kVersion);
  number("vocab_size", info.vocab_size);
  number("max_token", info.max_token);
  number("eos_id", info.eos_id);
  number("token_count", info.token_count);
  number("document_count", info.document_count);
  WriteText(context, file.id(), "tokenizer", info.tokenizer);
  WriteNumber(context, file.id(), "tokenizer_xxh3", H5T_STD_U64LE, info.tokenizer_xxh3);
  WriteNumber(context, file.id(), "tokens_xxh3", H5T_STD_U64LE, info.tokens_xxh3);
  WriteNumber(context, file.id(), "document_offsets_xxh3", H5T_STD_U64LE, info.document_offsets_xxh3);
  WriteNumber(context, file.id(), "block_xxh3_xxh3", H5T_STD_U64LE, info.block_xxh3_xxh3);
  WriteNumber(context, file.id(), "leaf_xxh3_xxh3", H5T_STD_U64LE, info.leaf_xxh3_xxh3);
  context.Check(H5Fflush(file.id(), H5F_SCOPE_LOCAL), "flushing");
  file.Close();
  return places;
}

TokenFileFrame ReadTokenFileFrame(const std::string& path, int64_t file_bytes) {
  PrepareHdf5();
  const Hdf5Context context{path, ExitCode::kBadData};
  Hdf5Handle properties = AccessProperties(context);
  Hdf5Handle file(context,
                  H5Fopen(path.c_str(), H5F_ACC_RDONLY, properties.id()),
                  H5Fclose,
                  "opening it as HDF5 (a damaged or foreign file?)");
  TokenFileFrame frame;
  frame.info = ReadInfo(context, file.id());
  const hid_t type = TokenType(frame.info.vocab_size);
  frame.places.tokens = FindDataset(context, file.id(), "tokens", type, frame.info.token_count, file_bytes);
  frame.places.document_offsets =
      FindDataset(context, file.id(), "document_offsets", H5T_STD_U64LE, frame.info.document_count + 1, file_bytes);
  frame.places.block_xxh3 =
      FindDataset(context, file.id(), "block_xxh3", H5T_STD_U64LE, BlocksOf(frame.info.token_count), file_bytes);
  const auto find_optional = [&](const char* name, int64_t count) -> int64_t {
    return H5Lexists(file.id(), name, H5P_DEFAULT) > 0
               ? FindDataset(context, file.id(), name, H5T_STD_U64LE, count, file_bytes)
               : 0;
  };
  frame.places.leaf_xxh3 = find_optional("leaf_xxh3", LeavesOf(frame.info.token_count));
  frame.places.frame_xxh3 = find_optional("frame_xxh3", 1);
  file.Close();
  return frame;
}

}  // namespace ksa
