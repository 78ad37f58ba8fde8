// One file of a checkpoint: contiguous, unfiltered HDF5 vectors. HDF5 writes and reads the frame (names, types,
// places); the contents are written and read at their places directly, so that a full disk is reported where it
// happens.
//
// The dataset frame_xxh3 holds the XXH3-64 of every byte outside of datasets, so that no byte of the file is unguarded.
// A file without it (made by another program) is read all the same.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "data/files/posix_file.h"
#include "data/files/streamed_hash.h"
#include "kernels/core/tensor.h"
#include "trainer/checkpoint/manifest.h"

namespace ksa {

struct Hdf5Context;

struct PieceDataset {
  std::string name;
  TensorView values;  // fp32 or fp64, on any device
};

// Writes the file, flushes it to disk, and has the system forget it, so that reading it back reads the disk; what lies
// on a device is copied from there by `stream`, a dataset at a time. Returns the XXH3-64 of every dataset's bytes.
// Error(kIo); Error(kDiverged) when a value is not finite.
[[nodiscard]] std::vector<uint64_t> WritePieceFile(const std::string& path,
                                                   const std::vector<PieceDataset>& datasets,
                                                   const Stream& stream);

// A dataset before it has contents.
struct PieceSpec {
  std::string name;
  DType dtype = DType::kF32;  // or fp64
  int64_t count = 0;          // elements
};

class PieceFile {
 public:
  // Reads names, types and places. Error(kBadData) when there is no such file (a piece is missing), when it is not a
  // regular file, damaged, or holds something else than contiguous, unfiltered vectors of its own; kIo when it cannot
  // be read.
  explicit PieceFile(const std::string& path);

  // Passes the elements of a dataset through `use` in order: `bytes` points to elements [first, first + count). A
  // chunk is at most kChunkBytes. Returns their XXH3-64. Error(kBadData) when the dataset is not there as described.
  using Use = std::function<void(const void* bytes, int64_t first, int64_t count)>;
  uint64_t Read(const std::string& dataset, DType dtype, int64_t count, const Use& use = {}) const;

  // The same for a piece, and checks its hash. Error(kBadData) naming file, dataset and tensor.
  void ReadPiece(const TensorEntry& tensor, const TensorPiece& piece, const Use& use = {}) const;

  // Elements `range` of a piece that ReadPiece has found good.
  void ReadVerified(const TensorEntry& tensor, const TensorPiece& piece, const FlatRange& range, const Use& use) const;

  // Whether the bytes outside of datasets are as they were written.
  [[nodiscard]] bool FrameIsIntact() const;

  static constexpr int64_t kChunkBytes = int64_t{4} << 20;

 private:
  friend class PieceWriter;

  struct Place {
    int64_t offset = 0;
    int64_t count = 0;
    int64_t element = 0;  // bytes
    bool floating = false;
  };

  void AddDatasets(const Hdf5Context& context, int64_t file);
  void AddDataset(const Hdf5Context& context, int64_t dataset, const std::string& name);
  [[nodiscard]] const Place& PlaceOf(const std::string& dataset, DType dtype, int64_t count) const;
  uint64_t ReadRange(const Place& place, const FlatRange& range, const Use& use) const;
  [[nodiscard]] uint64_t FrameHash() const;

  File file_;
  int64_t size_ = 0;
  std::map<std::string, Place> places_;
};

// Writes such a file a part at a time.
class PieceWriter {
 public:
  // Makes the file with room for its datasets. Error(kIo), also when there is such a file.
  PieceWriter(const std::string& path, std::vector<PieceSpec> datasets);

  // The next elements, in the order of the datasets, none of which a call crosses; in host memory. Error(kIo);
  // Error(kDiverged) when a value is not finite.
  void Write(const TensorView& values);

  // Flushes the file to disk, and has the system forget it. The XXH3-64 of every dataset's bytes. Error(kIo).
  [[nodiscard]] std::vector<uint64_t> Finish();

 private:
  [[nodiscard]] static PieceFile MakeFrame(const std::string& path, const std::vector<PieceSpec>& datasets);

  std::vector<PieceSpec> datasets_;
  PieceFile frame_;
  File file_;
  std::vector<uint64_t> hashes_;  // of the datasets that are done
  StreamedHash hash_;             // of the one that is being written
  int64_t written_ = 0;           // elements of it
};

}  // namespace ksa
