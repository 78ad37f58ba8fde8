// Who the run of a folder is, over all its starts: the file `run_id`.
#pragma once

#include <cstdint>
#include <string>

namespace ksa {

struct RunIdentity {
  std::string run_id;   // 16 hexadecimal digits
  int64_t attempt = 0;  // number of the last start, from 1; 0: there was none
};

// What `folder` says. Where its file is missing or spoilt, the identity is put together again from the checkpoints and
// the metrics; `note` then says so. A folder without any trace of a run gets a new identity. Changes nothing.
[[nodiscard]] RunIdentity ReadIdentity(const std::string& folder, std::string& note);

// Error(kCannotCreate), kIo.
void WriteIdentity(const std::string& folder, const RunIdentity& identity);

}  // namespace ksa
