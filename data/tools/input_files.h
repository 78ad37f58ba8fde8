// The files that `--input` stands for.
#pragma once

#include <string>
#include <vector>

namespace ksa {

struct InputFiles {
  std::vector<std::string> files;     // in the order of the paths; those of a folder by name
  std::vector<std::string> left_out;  // hidden files and folders, backups (a name that ends in ~), pipes, devices
};

// A folder stands for the regular files in it and in its sub-folders, links followed, but for those that are left out.
// Error kMissingInput for a path that leads nowhere or to a pipe, a link in a folder that leads nowhere or back to a
// folder above it; kIo for what cannot be read; kBadData when there is no file.
[[nodiscard]] InputFiles ListInputFiles(const std::vector<std::string>& paths);

// Error kBadData when a file begins as something that is no text, such as what gzip makes, with the way to its text.
void CheckIsText(const std::vector<std::string>& files);

// Error kUsage when a file is JSON by its name (.jsonl, .json, .ndjson in any case) and no field of it was asked for:
// its braces and keys would become text.
void CheckJsonField(const std::vector<std::string>& files, const std::string& jsonl_field);

// " of 12 files (3 left out: .git, a.txt~, b~)"; nothing for one file and none left out.
[[nodiscard]] std::string Describe(const InputFiles& inputs);

}  // namespace ksa
