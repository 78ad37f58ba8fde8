// Preloaded: a file system without flock(2), as some mounts of NFS and Lustre.
#include <cerrno>

extern "C" int flock(int /*fd*/, int /*operation*/) {
  errno = ENOLCK;
  return -1;
}
