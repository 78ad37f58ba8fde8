#include "trainer/checkpoint/piece_file.h"

#include <sys/stat.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <utility>

#include <xxhash.h>

#include "data/files/hdf5_handle.h"
#include "data/files/streamed_hash.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"

namespace ksa {
namespace {

static_assert(std::endian::native == std::endian::little, "contents are stored as they lie in memory");

constexpr const char* kFrameHash = "frame_xxh3";

hid_t StoredType(DType dtype) {
  return dtype == DType::kF64 ? H5T_IEEE_F64LE : H5T_IEEE_F32LE;
}

void CreateDataset(const Hdf5Context& context, hid_t file, const char* name, hid_t type, int64_t count) {
  const auto dims = static_cast<hsize_t>(count);
  Hdf5Handle space(context, H5Screate_simple(1, &dims, nullptr), H5Sclose, "a space");
  Hdf5Handle links(context, H5Pcreate(H5P_LINK_CREATE), H5Pclose, "link properties");
  context.Check(H5Pset_create_intermediate_group(links.id(), 1), "link properties");
  Hdf5Handle properties(context, H5Pcreate(H5P_DATASET_CREATE), H5Pclose, "dataset properties");
  context.Check(H5Pset_layout(properties.id(), H5D_CONTIGUOUS), "the layout");
  context.Check(H5Pset_alloc_time(properties.id(), H5D_ALLOC_TIME_EARLY), "the allocation time");
  context.Check(H5Pset_fill_time(properties.id(), H5D_FILL_TIME_NEVER), "the fill time");
  Hdf5Handle dataset(
      context, H5Dcreate2(file, name, type, space.id(), links.id(), properties.id(), H5P_DEFAULT), H5Dclose, name);
  dataset.Close();
}

void WriteFrame(const std::string& path, const std::vector<PieceDataset>& datasets) {
  const Hdf5Context context{path, ExitCode::kIo};
  Hdf5Handle access(context, H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "file access properties");
  context.Check(H5Pset_file_locking(access.id(), false, true), "the locking mode");
  context.Check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST), "the format version");
  Hdf5Handle file(
      context, H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access.id()), H5Fclose, "creating the file");
  for (const PieceDataset& dataset : datasets) {
    CreateDataset(context, file.id(), dataset.name.c_str(), StoredType(dataset.values.dtype), dataset.values.size());
  }
  CreateDataset(context, file.id(), kFrameHash, H5T_STD_U64LE, 1);
  context.Check(H5Fflush(file.id(), H5F_SCOPE_LOCAL), "flushing");
  file.Close();
}

// Names of all objects of a file.
std::vector<std::string> ObjectNames(const Hdf5Context& context, hid_t file) {
  struct Found {
    std::vector<std::string> names;
    std::string foreign;  // a link that leaves the file, or points where it likes
  } found;

  const auto visit = [](hid_t, const char* name, const H5L_info_t* info, void* data) -> herr_t {
    Found& into = *static_cast<Found*>(data);
    (info->type == H5L_TYPE_HARD ? into.names.emplace_back(name) : into.foreign) = name;
    return 0;
  };
  context.Check(H5Lvisit(file, H5_INDEX_NAME, H5_ITER_NATIVE, visit, &found), "listing the datasets");
  if (!found.foreign.empty()) {
    context.FailWith(fmt::format("{} is a link; a checkpoint must hold its own data", found.foreign));
  }
  return std::move(found.names);
}

File OpenRegular(const std::string& path) {
  struct stat status {};

  if (lstat(path.c_str(), &status) != 0) {
    Fail(ExitCode::kBadData, "{}: this file of the checkpoint is missing", path);
  }
  if (!S_ISREG(status.st_mode)) {
    Fail(ExitCode::kBadData, "{}: not a regular file", path);
  }
  return File::OpenForReading(path);
}

}  // namespace

std::vector<uint64_t> WritePieceFile(const std::string& path,
                                     const std::vector<PieceDataset>& datasets,
                                     const Stream& stream) {
  PrepareHdf5();
  WriteFrame(path, datasets);
  PieceFile frame(path);
  File file = File::OpenForWriting(path);
  std::vector<uint64_t> hashes;
  for (const PieceDataset& dataset : datasets) {
    const HostCopy copy(dataset.values, stream);
    const TensorView& values = copy.view();
    hashes.push_back(XXH3_64bits(values.data, static_cast<size_t>(values.bytes())));
    file.WriteAt(frame.places_.at(dataset.name).offset, values.data, values.bytes());
  }
  const uint64_t hash = frame.FrameHash();
  file.WriteAt(frame.places_.at(kFrameHash).offset, &hash, sizeof hash);
  file.Sync();
  file.Close();
  return hashes;
}

PieceFile::PieceFile(const std::string& path) : file_(OpenRegular(path)), size_(file_.Size()) {
  PrepareHdf5();
  const Hdf5Context context{path, ExitCode::kBadData};
  Hdf5Handle access(context, H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "file access properties");
  context.Check(H5Pset_file_locking(access.id(), false, true), "the locking mode");
  Hdf5Handle file(context, H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose, "opening it as HDF5");
  for (const std::string& name : ObjectNames(context, file.id())) {
    Hdf5Handle object(context, H5Oopen(file.id(), name.c_str(), H5P_DEFAULT), H5Oclose, name.c_str());
    if (H5Iget_type(object.id()) == H5I_GROUP) {
      continue;
    }
    if (H5Iget_type(object.id()) != H5I_DATASET) {
      context.FailWith(fmt::format("{} is not a dataset", name));
    }
    Hdf5Handle properties(context, H5Dget_create_plist(object.id()), H5Pclose, name.c_str());
    Hdf5Handle type(context, H5Dget_type(object.id()), H5Tclose, name.c_str());
    Hdf5Handle space(context, H5Dget_space(object.id()), H5Sclose, name.c_str());
    const hssize_t count = H5Sget_simple_extent_npoints(space.id());
    const haddr_t offset = H5Dget_offset(object.id());
    if (H5Pget_layout(properties.id()) != H5D_CONTIGUOUS || H5Pget_nfilters(properties.id()) != 0 ||
        H5Pget_external_count(properties.id()) != 0 || offset == HADDR_UNDEF || count < 1) {
      context.FailWith(fmt::format("{} must be contiguous, unfiltered and stored in the file itself", name));
    }
    const bool floating = H5Tequal(type.id(), H5T_IEEE_F32LE) > 0 || H5Tequal(type.id(), H5T_IEEE_F64LE) > 0;
    const Place place{static_cast<int64_t>(offset), count, static_cast<int64_t>(H5Tget_size(type.id())), floating};
    if (place.offset < 0 || place.offset > size_ || place.element < 1 ||
        place.count > (size_ - place.offset) / place.element) {
      context.FailWith(fmt::format("{} does not lie in the file, which has {} bytes", name, size_));
    }
    places_.emplace(name, place);
  }
  file.Close();
}

uint64_t PieceFile::Read(const std::string& dataset, DType dtype, int64_t count, const Use& use) {
  // A leading slash means the same to HDF5.
  const auto found = places_.find(dataset.substr(dataset.starts_with('/') ? 1 : 0));
  if (found == places_.end()) {
    Fail(ExitCode::kBadData, "{}: the dataset {} is missing", file_.path(), dataset);
  }
  const Place& place = found->second;
  if (!place.floating || place.element != SizeOf(dtype) || place.count != count) {
    Fail(ExitCode::kBadData,
         "{}: the dataset {} must be a vector of {} elements of type {}",
         file_.path(),
         dataset,
         count,
         NameOf(dtype));
  }
  // Not kept: many files may be open at once.
  const auto chunk =
      std::make_unique_for_overwrite<char[]>(static_cast<size_t>(std::min(kChunkBytes, count * place.element)));
  const int64_t most = kChunkBytes / place.element;
  StreamedHash hash;
  for (int64_t first = 0; first < count; first += most) {
    const int64_t elements = std::min(most, count - first);
    file_.ReadAt(place.offset + first * place.element, chunk.get(), elements * place.element);
    hash.Update(chunk.get(), static_cast<size_t>(elements * place.element));
    if (use) {
      use(chunk.get(), first, elements);
    }
  }
  return hash.Digest();
}

uint64_t PieceFile::FrameHash() const {
  std::vector<std::pair<int64_t, int64_t>> used;  // [begin, end) of datasets
  for (const auto& [name, place] : places_) {
    used.emplace_back(place.offset, place.offset + place.count * place.element);
  }
  std::sort(used.begin(), used.end());
  used.emplace_back(size_, size_);
  StreamedHash hash;
  std::vector<char> gap;
  int64_t begin = 0;
  for (const auto& [next, end] : used) {
    while (begin < next) {
      gap.resize(static_cast<size_t>(std::min(kChunkBytes, next - begin)));
      file_.ReadAt(begin, gap.data(), static_cast<int64_t>(gap.size()));
      hash.Update(gap.data(), gap.size());
      begin += static_cast<int64_t>(gap.size());
    }
    begin = std::max(begin, end);
  }
  return hash.Digest();
}

bool PieceFile::FrameIsIntact() const {
  const auto found = places_.find(kFrameHash);
  if (found == places_.end()) {
    return true;
  }
  uint64_t stored = 0;
  if (found->second.floating || found->second.element != 8 || found->second.count != 1) {
    return false;
  }
  file_.ReadAt(found->second.offset, &stored, sizeof stored);
  return stored == FrameHash();
}

}  // namespace ksa
