#include "trainer/checkpoint/verify.h"

#include <algorithm>
#include <charconv>
#include <cstddef>
#include <map>
#include <utility>

#include "data/files/posix_file.h"
#include "trainer/checkpoint/agree.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/checkpoint/tokenizer_copy.h"

namespace ksa {
namespace {

// Whether something else, or nothing, has the name by now. Where that cannot be found out it has not: then what was
// found before counts.
bool NameHasGone(const std::string& path, const std::optional<FileIdentity>& before) {
  try {
    const std::optional<FileIdentity> now = IdentityOfName(path);
    return !now.has_value() || now != before;
  } catch (const Error&) {
    return false;
  }
}

Fault FaultOf(const Error& error) {
  return {error.code() == ExitCode::kIo ? ExitCode::kIo : ExitCode::kBadData, error.what()};
}

// Runs a check; what it throws is a fault.
template <typename Check>
void Attempt(std::vector<Fault>& faults, const Check& check) {
  try {
    check();
  } catch (const Error& error) {
    if (error.code() == ExitCode::kOutOfMemory) {
      throw;
    }
    faults.push_back(FaultOf(error));
  }
}

using Pieces = std::vector<std::pair<const TensorEntry*, const TensorPiece*>>;

void VerifyFile(const std::string& path, const Pieces& pieces, std::vector<Fault>& faults) {
  Attempt(faults, [&] {
    PieceFile file(path);
    if (!file.FrameIsIntact()) {
      Fail(ExitCode::kBadData, "{}: bytes outside of its datasets were changed", path);
    }
    for (const auto& [tensor, piece] : pieces) {
      Attempt(faults, [&, tensor = tensor, piece = piece] { file.ReadPiece(*tensor, *piece); });
    }
  });
}

// Faults of every `parts`-th file, from number `part` on.
std::vector<Fault> VerifyShare(const Checkpoint& checkpoint, size_t part, size_t parts) {
  std::map<std::string, Pieces> files;
  for (const TensorEntry& tensor : checkpoint.manifest.tensors) {
    for (const TensorPiece& piece : tensor.pieces) {
      files[piece.file].emplace_back(&tensor, &piece);
    }
  }
  std::vector<Fault> faults;
  size_t number = 0;
  for (const auto& [name, pieces] : files) {
    if (number++ % parts == part) {
      VerifyFile(checkpoint.path + "/" + name, pieces, faults);
    }
  }
  if (number % parts == part) {
    Attempt(faults, [&] { static_cast<void>(TokenizerOf(checkpoint)); });
  }
  return faults;
}

std::vector<Fault> VerifyShareOf(const Checkpoint& checkpoint, const Communicator& world) {
  return VerifyShare(checkpoint, static_cast<size_t>(world.rank()), static_cast<size_t>(world.size()));
}

// "74 text"
std::string ToBytes(const std::vector<Fault>& faults) {
  std::vector<std::string> list;
  for (const Fault& fault : faults) {
    list.push_back(fmt::format("{} {}", static_cast<int>(fault.code), fault.text));
  }
  return JoinList(list);
}

Fault FaultFromBytes(const std::string& bytes) {
  int code = 0;
  const auto [end, error] = std::from_chars(bytes.data(), bytes.data() + bytes.size(), code);
  KSA_CHECK(error == std::errc() && *end == ' ', "a rank sent '{}', which is no fault", bytes);
  return {static_cast<ExitCode>(code), std::string(end + 1, bytes.data() + bytes.size())};
}

// What all ranks found, on all of them.
std::vector<Fault> FaultsOfAll(Communicator& world, const std::function<std::vector<Fault>()>& find) {
  std::vector<Fault> all;
  for (const std::string& bytes : OnAllRanks(world, [&] { return ToBytes(find()); })) {
    for (const std::string& entry : SplitList(bytes)) {
      Fault fault = FaultFromBytes(entry);
      // All ranks read the manifest: they find the same faults in it.
      if (std::none_of(all.begin(), all.end(), [&](const Fault& other) { return other.text == fault.text; })) {
        all.push_back(std::move(fault));
      }
    }
  }
  return all;
}

}  // namespace

bool HasGone(const Checkpoint& checkpoint) {
  return NameHasGone(checkpoint.path, checkpoint.folder);
}

Checkpoint ReadCheckpoint(const std::string& path) {
  Checkpoint checkpoint{path, {}, IdentityOfName(path)};
  if (!checkpoint.folder.has_value()) {
    Fail(ExitCode::kMissingInput, "{}: there is no such checkpoint", path);
  }
  if (const PathKind kind = KindOf(path); kind == PathKind::kNone) {
    Fail(ExitCode::kIo, "{}: this link leads nowhere; is the disk mounted that it points to?", path);
  } else if (kind != PathKind::kFolder) {
    Fail(ExitCode::kBadData, "{}: a checkpoint is a folder; this is {}", path, NameOf(kind));
  }
  const std::string manifest = fmt::format("{}/{}", path, kManifestName);
  const PathKind kind = KindOf(manifest);
  if (kind == PathKind::kNone) {
    Fail(ExitCode::kBadData, "{}: it has no {}", path, kManifestName);
  }
  if (kind != PathKind::kFile) {
    Fail(ExitCode::kBadData, "{}: expected a regular file, found {}", manifest, NameOf(kind));
  }
  checkpoint.manifest = ParseManifest(ReadSmallFile(manifest), manifest);
  return checkpoint;
}

Examined Examine(const std::string& path, std::optional<int64_t> step, Communicator& world) {
  Examined result;
  std::optional<FileIdentity> folder;
  result.faults = FaultsOfAll(world, [&] {
    std::vector<Fault> faults;
    Attempt(faults, [&] {
      folder = IdentityOfName(path);
      result.checkpoint = ReadCheckpoint(path);
      if (const int64_t found = result.checkpoint.manifest.meta.step; step.has_value() && found != *step) {
        Fail(ExitCode::kBadData, "{}: its manifest is of step {}", path, found);
      }
      const std::vector<Fault> share = VerifyShareOf(result.checkpoint, world);
      faults.insert(faults.end(), share.begin(), share.end());
    });
    return faults;
  });
  if (!result.faults.empty()) {
    result.gone = OnRankZero(world, [&] { return std::string(NameHasGone(path, folder) ? "gone" : ""); }) == "gone";
  }
  return result;
}

void RememberAnswer(CheckedCheckpoints& checked, const std::string& path, const Examined& examined) {
  const bool certain = std::all_of(examined.faults.begin(), examined.faults.end(), [](const Fault& fault) {
    return fault.code == ExitCode::kBadData;
  });
  if (certain && !examined.gone) {
    checked.Remember(path, examined.good());
  }
}

RefusedCheckpoint RefusalOf(const std::string& path, const std::vector<Fault>& faults) {
  KSA_CHECK(!faults.empty(), "{} is refused without a fault", path);
  // Of several, damage counts: it stays when the disk is mended.
  const auto damage =
      std::find_if(faults.begin(), faults.end(), [](const Fault& fault) { return fault.code == ExitCode::kBadData; });
  const Fault& first = damage == faults.end() ? faults.front() : *damage;
  const std::string more = faults.size() > 1 ? fmt::format(" (and {} more faults)", faults.size() - 1) : "";
  return {path, first.text + more, first.code};
}

std::vector<Fault> VerifyCheckpoint(const Checkpoint& checkpoint) {
  return VerifyShare(checkpoint, 0, 1);
}

std::vector<Fault> VerifyCheckpoint(const Checkpoint& checkpoint, Communicator& world) {
  return FaultsOfAll(world, [&] { return VerifyShareOf(checkpoint, world); });
}

std::string JoinList(const std::vector<std::string>& list) {
  std::string bytes;
  for (const std::string& entry : list) {
    bytes += entry;
    bytes += '\0';
  }
  return bytes;
}

std::vector<std::string> SplitList(const std::string& bytes) {
  std::vector<std::string> list;
  for (size_t begin = 0; begin < bytes.size();) {
    const size_t end = bytes.find('\0', begin);
    list.push_back(bytes.substr(begin, end - begin));
    begin = end + 1;
  }
  return list;
}

}  // namespace ksa
