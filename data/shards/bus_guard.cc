#include "data/shards/bus_guard.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <deque>
#include <mutex>

#include "kernels/core/error.h"

namespace ksa {
namespace {

// One mapping. Entries are never removed, so that the handler may walk them without a lock; a free one has begin 0.
struct Entry {
  std::atomic<uintptr_t> begin{0};
  std::atomic<uintptr_t> end{0};
  std::array<char, 1024> path{};
  std::atomic<Entry*> next{nullptr};
};

// A signal handler has no argument of ours: this is the one place where process-wide state cannot be avoided.
struct Registry {
  std::mutex mutex;
  std::deque<Entry> entries;
  std::atomic<Entry*> first{nullptr};
  std::array<char, 1024> log{};
  std::atomic<bool> has_log{false};
};

Registry& TheRegistry() {
  static Registry registry;
  return registry;
}

void WriteText(int descriptor, const char* text) {
  static_cast<void>(!write(descriptor, text, std::strlen(text)));
}

void WriteMessage(int descriptor, const char* begin, const char* path) {
  WriteText(descriptor, begin);
  WriteText(descriptor, path);
  WriteText(descriptor, ": the file was cut short, or cannot be read, while it was in use\n");
}

// Only async-signal-safe calls.
void OnBusError(int number, siginfo_t* info, void*) {
  const auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (const Entry* entry = TheRegistry().first.load(); entry != nullptr; entry = entry->next.load()) {
    if (entry->begin.load() <= address && address < entry->end.load()) {
      WriteMessage(STDERR_FILENO, "ksa: ", entry->path.data());
      const int log =
          TheRegistry().has_log ? open(TheRegistry().log.data(), O_WRONLY | O_APPEND | O_CLOEXEC | O_NONBLOCK) : -1;
      if (log >= 0) {
        WriteMessage(log, "error: ", entry->path.data());
      }
      _exit(static_cast<int>(ExitCode::kIo));
    }
  }
  static_cast<void>(signal(number, SIG_DFL));  // not ours: the access is repeated and ends the process as usual
}

void InstallHandler() {
  struct sigaction action {};

  action.sa_sigaction = OnBusError;
  action.sa_flags = SA_SIGINFO;
  sigemptyset(&action.sa_mask);
  if (sigaction(SIGBUS, &action, nullptr) != 0) {
    Fail(ExitCode::kInternal, "cannot install the handler of SIGBUS");
  }
}

}  // namespace

size_t GuardMapping(const void* data, size_t bytes, const std::string& path) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  if (registry.entries.empty()) {
    InstallHandler();
  }
  size_t index = 0;
  while (index < registry.entries.size() && registry.entries[index].begin.load() != 0) {
    ++index;
  }
  const bool added = index == registry.entries.size();
  Entry& entry = added ? registry.entries.emplace_back() : registry.entries[index];
  const size_t kept = std::min(path.size(), entry.path.size() - 1);
  std::memcpy(entry.path.data(), path.data(), kept);
  entry.path[kept] = '\0';
  const auto begin = reinterpret_cast<uintptr_t>(data);
  entry.end = begin + bytes;
  entry.begin = begin;
  if (added) {
    entry.next = registry.first.load();
    registry.first = &entry;
  }
  return index;
}

void SetBusErrorLog(const std::string& path) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  if (!registry.has_log && path.size() < registry.log.size()) {
    std::memcpy(registry.log.data(), path.data(), path.size());
    registry.has_log = true;  // from here on the handler reads it
  }
}

void UnguardMapping(size_t guard) {
  Registry& registry = TheRegistry();
  const std::lock_guard lock(registry.mutex);
  registry.entries[guard].begin = 0;
  registry.entries[guard].end = 0;
}

}  // namespace ksa
