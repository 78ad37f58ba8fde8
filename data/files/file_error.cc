#include "data/files/file_error.h"

#include <cerrno>
#include <system_error>

namespace ksa {

ExitCode CodeOf(FileUse use, int error) {
  if (use == FileUse::kWrite) {
    return ExitCode::kIo;
  }
  switch (error) {
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
    case EISDIR:
    case ENXIO:
    case EINVAL:
    case EILSEQ:
      return use == FileUse::kRead ? ExitCode::kMissingInput : ExitCode::kCannotCreate;
    case EACCES:
    case EPERM:
    case EROFS:
    case EEXIST:
    case ENOTEMPTY:
    case EBUSY:
    case ETXTBSY:
    case EXDEV:
      return use == FileUse::kRead ? ExitCode::kIo : ExitCode::kCannotCreate;
    default:
      return ExitCode::kIo;
  }
}

void FailFile(FileUse use, int error, std::string_view path, std::string_view what) {
  Fail(CodeOf(use, error), "{}: {}: {}", path, what, std::system_category().message(error));
}

}  // namespace ksa
