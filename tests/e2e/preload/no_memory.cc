// Preloaded: no block of $NO_BLOCK_OF bytes, and up to 5 % more, can be had.
#include <cerrno>
#include <cstddef>
#include <cstdlib>

extern "C" void* __libc_malloc(size_t bytes);  // NOLINT(bugprone-reserved-identifier): of glibc

extern "C" void* malloc(size_t bytes) {
  const char* refused = std::getenv("NO_BLOCK_OF");
  const unsigned long long least = refused != nullptr ? std::strtoull(refused, nullptr, 10) : 0;
  if (least > 0 && bytes >= least && bytes - least <= least / 20) {
    errno = ENOMEM;
    return nullptr;
  }
  return __libc_malloc(bytes);
}
