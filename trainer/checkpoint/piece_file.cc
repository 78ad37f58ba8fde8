#include "trainer/checkpoint/piece_file.h"

#include <algorithm>
#include <bit>
#include <cstddef>
#include <memory>
#include <set>
#include <utility>

#include <xxhash.h>

#include "data/files/frame_hash.h"
#include "data/files/hdf5_handle.h"
#include "data/files/paths.h"
#include "data/files/streamed_hash.h"
#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/checkpoint/finite.h"

namespace ksa {
namespace {

static_assert(std::endian::native == std::endian::little, "contents are stored as they lie in memory");

constexpr const char* kFrameHash = "frame_xxh3";
constexpr int kMostDepth = 16;  // of groups; the names of tensors make one level

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

void WriteFrame(const std::string& path, const std::vector<PieceSpec>& datasets) {
  const Hdf5Context context{path, ExitCode::kIo};
  Hdf5Handle access(context, H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "file access properties");
  context.Check(H5Pset_file_locking(access.id(), false, true), "the locking mode");
  context.Check(H5Pset_libver_bounds(access.id(), H5F_LIBVER_LATEST, H5F_LIBVER_LATEST), "the format version");
  Hdf5Handle file(
      context, H5Fcreate(path.c_str(), H5F_ACC_EXCL, H5P_DEFAULT, access.id()), H5Fclose, "creating the file");
  for (const PieceSpec& dataset : datasets) {
    CreateDataset(context, file.id(), dataset.name.c_str(), StoredType(dataset.dtype), dataset.count);
  }
  CreateDataset(context, file.id(), kFrameHash, H5T_STD_U64LE, 1);
  context.Check(H5Fflush(file.id(), H5F_SCOPE_LOCAL), "flushing");
  file.Close();
}

// A link of a group: its name, and the address of what it leads to.
struct GroupLink {
  std::string name;
  haddr_t address = HADDR_UNDEF;
};

// The links of one group, but not of the groups in it.
std::vector<GroupLink> LinksOf(const Hdf5Context& context, hid_t group) {
  struct Found {
    std::vector<GroupLink> links;
    std::string foreign;  // a link that leaves the file, or points where it likes
  } found;

  const auto add = [](hid_t, const char* name, const H5L_info_t* info, void* data) -> herr_t {
    Found& into = *static_cast<Found*>(data);
    if (info->type == H5L_TYPE_HARD) {
      into.links.push_back({name, info->u.address});
    } else {
      into.foreign = name;
    }
    return 0;
  };
  context.Check(H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, nullptr, add, &found), "listing the datasets");
  if (!found.foreign.empty()) {
    context.FailWith(fmt::format("{} is a link; a checkpoint must hold its own data", found.foreign));
  }
  return std::move(found.links);
}

File OpenRegular(const std::string& path) {
  if (const PathKind kind = KindOfName(path); kind == PathKind::kNone) {
    Fail(ExitCode::kBadData, "{}: this file of the checkpoint is missing", path);
  } else if (kind != PathKind::kFile) {
    Fail(ExitCode::kBadData, "{}: expected a regular file, found {}", path, NameOf(kind));
  }
  return File::OpenForReading(path);
}

void CheckFinite(const std::string& name, const TensorView& values) {
  if (const int64_t first = FirstNotFinite(values); first >= 0) {
    Fail(ExitCode::kDiverged,
         "{} holds values that are not finite (the first is number {} of this rank's part): the model is spoilt and "
         "this checkpoint is not saved; go on from an earlier one, or start again, with a lower optimizer.lr or a "
         "larger "
         "optimizer.eps",
         name,
         first);
  }
}

}  // namespace

std::vector<uint64_t> WritePieceFile(const std::string& path,
                                     const std::vector<PieceDataset>& datasets,
                                     const Stream& stream) {
  std::vector<PieceSpec> specs;
  for (const PieceDataset& dataset : datasets) {
    specs.push_back({dataset.name, dataset.values.dtype, dataset.values.size()});
  }
  PieceWriter writer(path, std::move(specs));
  for (const PieceDataset& dataset : datasets) {
    const HostCopy copy(dataset.values, stream);
    writer.Write(copy.view());
  }
  return writer.Finish();
}

PieceWriter::PieceWriter(const std::string& path, std::vector<PieceSpec> datasets)
    : datasets_(std::move(datasets)), frame_(MakeFrame(path, datasets_)), file_(File::OpenForWriting(path)) {}

PieceFile PieceWriter::MakeFrame(const std::string& path, const std::vector<PieceSpec>& datasets) {
  PrepareHdf5();
  WriteFrame(path, datasets);
  return PieceFile(path);
}

void PieceWriter::Write(const TensorView& values) {
  KSA_CHECK(hashes_.size() < datasets_.size(), "more was written than there are datasets");
  const PieceSpec& dataset = datasets_[hashes_.size()];
  KSA_CHECK(values.dtype == dataset.dtype && written_ + values.size() <= dataset.count,
            "{} takes {} elements of {}",
            dataset.name,
            dataset.count,
            NameOf(dataset.dtype));
  CheckFinite(dataset.name, values);
  hash_.Update(values.data, static_cast<size_t>(values.bytes()));
  const int64_t offset = frame_.places_.at(dataset.name).offset + written_ * SizeOf(dataset.dtype);
  file_.WriteAt(offset, values.data, values.bytes());
  written_ += values.size();
  if (written_ == dataset.count) {
    hashes_.push_back(hash_.Digest());
    hash_.Reset();
    written_ = 0;
  }
}

std::vector<uint64_t> PieceWriter::Finish() {
  KSA_CHECK(
      hashes_.size() == datasets_.size(), "only {} of {} datasets were written", hashes_.size(), datasets_.size());
  const uint64_t hash = frame_.FrameHash();
  file_.WriteAt(frame_.places_.at(kFrameHash).offset, &hash, sizeof hash);
  file_.Sync();
  file_.DropCache();
  file_.Close();
  return std::move(hashes_);
}

PieceFile::PieceFile(const std::string& path) : file_(OpenRegular(path)), size_(file_.Size()) {
  PrepareHdf5();
  const Hdf5Context context{path, ExitCode::kBadData};
  Hdf5Handle access(context, H5Pcreate(H5P_FILE_ACCESS), H5Pclose, "file access properties");
  context.Check(H5Pset_file_locking(access.id(), false, true), "the locking mode");
  Hdf5Handle file(context, H5Fopen(path.c_str(), H5F_ACC_RDONLY, access.id()), H5Fclose, "opening it as HDF5");
  AddDatasets(context, file.id());
  file.Close();
}

// Group by group: HDF5's own walk calls itself, as deep as a hostile file likes.
void PieceFile::AddDatasets(const Hdf5Context& context, int64_t file) {
  std::set<haddr_t> seen;  // a group may be linked into itself
  std::vector<std::string> groups = {""};
  while (!groups.empty()) {
    const std::string group = std::move(groups.back());
    groups.pop_back();
    if (std::count(group.begin(), group.end(), '/') > kMostDepth) {
      context.FailWith(fmt::format("its groups are nested deeper than {} levels", kMostDepth));
    }
    Hdf5Handle open(context, H5Gopen2(file, ("/" + group).c_str(), H5P_DEFAULT), H5Gclose, "opening a group");
    for (const GroupLink& link : LinksOf(context, open.id())) {
      const std::string name = group + link.name;
      Hdf5Handle object(context, H5Oopen(open.id(), link.name.c_str(), H5P_DEFAULT), H5Oclose, name.c_str());
      const H5I_type_t type = H5Iget_type(object.id());
      if (type == H5I_GROUP && seen.insert(link.address).second) {
        groups.push_back(name + "/");
      } else if (type == H5I_DATASET) {
        AddDataset(context, object.id(), name);
      } else if (type != H5I_GROUP) {
        context.FailWith(fmt::format("{} is not a dataset", name));
      }
    }
  }
}

void PieceFile::AddDataset(const Hdf5Context& context, int64_t dataset, const std::string& name) {
  Hdf5Handle properties(context, H5Dget_create_plist(dataset), H5Pclose, name.c_str());
  Hdf5Handle type(context, H5Dget_type(dataset), H5Tclose, name.c_str());
  Hdf5Handle space(context, H5Dget_space(dataset), H5Sclose, name.c_str());
  const hssize_t count = H5Sget_simple_extent_npoints(space.id());
  const haddr_t offset = H5Dget_offset(dataset);
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

const PieceFile::Place& PieceFile::PlaceOf(const std::string& dataset, DType dtype, int64_t count) const {
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
  return place;
}

uint64_t PieceFile::ReadRange(const Place& place, const FlatRange& range, const Use& use) const {
  // Not kept: many files may be open at once.
  const auto chunk =
      std::make_unique_for_overwrite<char[]>(static_cast<size_t>(std::min(kChunkBytes, range.size() * place.element)));
  const int64_t most = kChunkBytes / place.element;
  StreamedHash hash;
  for (int64_t first = range.begin; first < range.end; first += most) {
    const int64_t elements = std::min(most, range.end - first);
    file_.ReadAt(place.offset + first * place.element, chunk.get(), elements * place.element);
    hash.Update(chunk.get(), static_cast<size_t>(elements * place.element));
    if (use) {
      use(chunk.get(), first, elements);
    }
  }
  return hash.Digest();
}

uint64_t PieceFile::Read(const std::string& dataset, DType dtype, int64_t count, const Use& use) const {
  return ReadRange(PlaceOf(dataset, dtype, count), {0, count}, use);
}

void PieceFile::ReadVerified(const TensorEntry& tensor,
                             const TensorPiece& piece,
                             const FlatRange& range,
                             const Use& use) const {
  static_cast<void>(ReadRange(PlaceOf(piece.dataset, tensor.dtype, piece.size()), range, use));
}

void PieceFile::ReadPiece(const TensorEntry& tensor, const TensorPiece& piece, const Use& use) const {
  const uint64_t hash = Read(piece.dataset, tensor.dtype, piece.size(), use);
  if (hash != piece.xxh3) {
    Fail(ExitCode::kBadData,
         "{}: the dataset {} of the tensor {} is corrupt (its hash is {:016x}, the manifest says {:016x})",
         file_.path(),
         piece.dataset,
         tensor.name,
         hash,
         piece.xxh3);
  }
}

uint64_t PieceFile::FrameHash() const {
  std::vector<ByteRange> datasets;
  for (const auto& [name, place] : places_) {
    datasets.push_back({place.offset, place.offset + place.count * place.element});
  }
  return HashOutside(file_, std::move(datasets));
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
