#include "data/tools/input_files.h"

#include <algorithm>
#include <cctype>

#include "data/files/known_format.h"
#include "data/files/paths.h"
#include "kernels/core/error.h"

namespace ksa {
namespace {

bool IsHiddenOrBackup(const std::string& name) {
  return name.starts_with('.') || name.ends_with('~');
}

class Lister {
 public:
  explicit Lister(InputFiles& found) : found_(found) {}

  // `above_`: the folders that this one lies in, without links.
  void Folder(const std::string& folder) {
    const std::string resolved = ResolvePath(folder);
    if (std::find(above_.begin(), above_.end(), resolved) != above_.end()) {
      Fail(ExitCode::kMissingInput, "{}: a link back to {}, a folder that it lies in; remove it", folder, resolved);
    }
    above_.push_back(resolved);
    for (const std::string& name : NamesIn(folder)) {
      const std::string path = folder + (folder.ends_with('/') ? "" : "/") + name;
      if (IsHiddenOrBackup(name)) {
        found_.left_out.push_back(path);
        continue;
      }
      switch (KindOf(path)) {
        case PathKind::kFile:
          found_.files.push_back(path);
          break;
        case PathKind::kFolder:
          Folder(path);
          break;
        case PathKind::kNone:
          Fail(ExitCode::kMissingInput, "{}: a link that leads nowhere; mend or remove it", path);
        case PathKind::kLink:
        case PathKind::kOther:
          found_.left_out.push_back(path);
          break;
      }
    }
    above_.pop_back();
  }

 private:
  InputFiles& found_;
  std::vector<std::string> above_;
};

}  // namespace

InputFiles ListInputFiles(const std::vector<std::string>& paths) {
  InputFiles found;
  for (const std::string& path : paths) {
    const PathKind kind = KindOf(path);
    if (kind == PathKind::kFile) {
      found.files.push_back(path);
    } else if (kind == PathKind::kFolder) {
      Lister(found).Folder(path);
    } else if (kind == PathKind::kNone) {
      Fail(ExitCode::kMissingInput, "{}: no such file or folder", path);
    } else {
      Fail(ExitCode::kMissingInput,
           "{}: {}; input must be regular files, whose size is known and which can be read twice. Write it to a file",
           path,
           NameOf(kind));
    }
  }
  if (found.files.empty()) {
    Fail(ExitCode::kBadData,
         "{}: holds no file to read ({} hidden or backup files and the like are left out)",
         paths.empty() ? "--input" : paths.front(),
         found.left_out.size());
  }
  return found;
}

void CheckIsText(const std::vector<std::string>& files) {
  for (const std::string& file : files) {
    if (const std::optional<KnownFormat> format = FormatOfFile(file); format && !format->is_unpacked) {
      const std::string cure = CureFor(*format, file);
      Fail(ExitCode::kBadData, "{}: {}, not text{}", file, format->name, cure.empty() ? "" : "; " + cure);
    }
  }
}

void CheckJsonField(const std::vector<std::string>& files, const std::string& jsonl_field) {
  if (!jsonl_field.empty()) {
    return;
  }
  for (const std::string& file : files) {
    std::string name = file;
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return std::tolower(c); });
    if (name.ends_with(".gz") || name.ends_with(".zst")) {
      name.resize(name.rfind('.'));
    }
    if (name.ends_with(".jsonl") || name.ends_with(".json") || name.ends_with(".ndjson")) {
      Fail(ExitCode::kUsage, "{}: give --jsonl-field, the name of the field that holds the text", file);
    }
  }
}

std::string Describe(const InputFiles& inputs) {
  constexpr size_t kShown = 3;
  std::string text;
  if (inputs.files.size() != 1 || !inputs.left_out.empty()) {
    text = fmt::format(" of {} file{}", inputs.files.size(), inputs.files.size() == 1 ? "" : "s");
  }
  if (!inputs.left_out.empty()) {
    text += fmt::format(" ({} left out, hidden or backup or no files: ", inputs.left_out.size());
    for (size_t i = 0; i < std::min(kShown, inputs.left_out.size()); ++i) {
      text += (i == 0 ? "" : ", ") + inputs.left_out[i];
    }
    text += inputs.left_out.size() > kShown ? ", …)" : ")";
  }
  return text;
}

}  // namespace ksa
