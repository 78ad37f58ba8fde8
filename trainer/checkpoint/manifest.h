// The manifest of a checkpoint: who wrote it, where the run stood, and where every element of every tensor lies.
// Plain values; JSON on disk. Format: docs/design/checkpoint.md.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/core/dtype.h"
#include "model/autograd/parameter.h"
#include "parallel/mesh/process_mesh.h"

namespace ksa {

inline constexpr std::string_view kManifestName = "manifest.json";

// The copy of the run's tokenizer that lies in the checkpoint, which so works alone.
struct TokenizerCopy {
  std::string file;   // one of the names of kTokenizerFiles
  uint64_t xxh3 = 0;  // XXH3-64 of its bytes

  friend bool operator==(const TokenizerCopy&, const TokenizerCopy&) = default;
};

// The checkpoint that a run went on from.
struct CheckpointOrigin {
  std::string run_id;
  int64_t step = 0;

  friend bool operator==(const CheckpointOrigin&, const CheckpointOrigin&) = default;
};

// What a checkpoint knows of its run besides tensors.
struct CheckpointMeta {
  std::string run_id;            // 16 hexadecimal digits
  int64_t step = 0;              // updates done
  int64_t tokens = 0;            // text tokens trained on
  int64_t samples = 0;           // samples consumed
  MeshShape mesh;                // of the run that wrote it; any layout reads any other
  std::string configuration;     // config.resolved.yaml, whole
  std::string data_fingerprint;  // Dataset::Fingerprint()
  std::optional<TokenizerCopy> tokenizer;
  std::optional<CheckpointOrigin> resumed_from;  // of a run that began from a checkpoint of another folder
  std::vector<double> recent_grad_norms;         // of the updates that count, oldest first; finite
  int64_t skips_in_a_row = 0;                    // updates that were skipped since the last one that counts

  friend bool operator==(const CheckpointMeta&, const CheckpointMeta&) = default;
};

// The elements [flat.begin, flat.end), row-major, of the box [offset, offset + shape) of a tensor, alone in a dataset.
struct TensorPiece {
  std::vector<int64_t> offset;
  std::vector<int64_t> shape;
  FlatRange flat;
  std::string file;     // relative to the checkpoint folder
  std::string dataset;  // vector of flat.size() elements
  uint64_t xxh3 = 0;    // XXH3-64 of its bytes, little-endian

  [[nodiscard]] int64_t size() const { return flat.size(); }
};

struct TensorEntry {
  std::string name;  // weights/N, exp_avg/N or exp_avg_sq/N
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // of the whole, unpadded tensor
  std::vector<TensorPiece> pieces;

  [[nodiscard]] int64_t size() const;  // elements
};

struct Manifest {
  CheckpointMeta meta;
  std::vector<TensorEntry> tensors;

  [[nodiscard]] const TensorEntry* Find(std::string_view name) const;  // null when there is none
};

// JSON text of a manifest.
[[nodiscard]] std::string RenderManifest(const Manifest& manifest);

// Parses and checks everything that can be checked without the data: keys, types, ranges, paths that stay in the
// folder, pieces that tile their tensors without hole or overlap, and that weights and moments go together. `path`
// stands for the file in messages. Error(kBadData).
[[nodiscard]] Manifest ParseManifest(const std::string& text, const std::string& path);

// One piece list as text and back: what ranks send to the one that writes the manifest.
[[nodiscard]] std::string RenderTensors(const std::vector<TensorEntry>& tensors);
[[nodiscard]] std::vector<TensorEntry> ParseTensors(const std::string& text, const std::string& path);

}  // namespace ksa
