#include "parallel/comm/libraries.h"

#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <system_error>
#include <vector>

#include <fmt/ranges.h>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "kernels/core/gpu.h"
#include "parallel/comm/mpi.h"
#include "parallel/comm/nccl.h"
#include "trainer/doctor/health_check.h"
#include "trainer/observe/log_line.h"
#include "trainer/observe/shell_words.h"

namespace ksa {
namespace {

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr const char* kDriverVersion = "/proc/driver/nvidia/version";

#ifdef KSA_HAVE_CUDA
constexpr bool kBuiltWithCuda = true;
#else
constexpr bool kBuiltWithCuda = false;
#endif

// The NVIDIA driver of the kernel, as it says; empty: none.
std::string DriverLine() {
  if (!Exists(kDriverVersion)) {
    return {};
  }
  const std::string text = ReadSmallFile(kDriverVersion);
  return text.substr(0, text.find('\n'));
}

struct Ended {
  int code = 0;        // 128 + n: by signal n
  std::string output;  // of both kinds
  double seconds = 0;
};

Ended RunToItsEnd(const std::string& line) {
  const auto begin = std::chrono::steady_clock::now();
  Ended ended;
  std::FILE* pipe = popen((line + " 2>&1 </dev/null").c_str(), "r");
  if (pipe == nullptr) {
    return {.code = 127, .output = std::system_category().message(errno), .seconds = 0};
  }
  std::array<char, 4096> part{};
  while (const size_t bytes = std::fread(part.data(), 1, part.size(), pipe)) {
    ended.output.append(part.data(), bytes);
  }
  const int status = pclose(pipe);
  ended.code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  ended.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  return ended;
}

// A rank by itself, in a child: MPI ends a process that it cannot start.
Ended RunAlone() {
  std::array<int, 2> ends{};
  if (pipe(ends.data()) != 0) {
    return {.code = 1, .output = std::system_category().message(errno), .seconds = 0};
  }
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    alarm(60);
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    int code = 0;
    try {
      const MpiSession mpi;
      code = mpi.World()->size() == 1 ? 0 : 1;
    } catch (const Error& error) {
      fmt::print("{}\n", error.what());
      code = static_cast<int>(error.code());
    }
    std::fflush(nullptr);
    std::_Exit(code);
  }
  close(ends[1]);
  Ended ended;
  std::array<char, 4096> part{};
  for (ssize_t bytes = 0; (bytes = read(ends[0], part.data(), part.size())) > 0;) {
    ended.output.append(part.data(), static_cast<size_t>(bytes));
  }
  close(ends[0]);
  int status = 0;
  const bool waited = child > 0 && waitpid(child, &status, 0) == child;
  ended.code = !waited ? 1 : WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  return ended;
}

// The first line that says something.
std::string FirstWords(const std::string& output) {
  size_t begin = 0;
  while (begin < output.size()) {
    const size_t end = std::min(output.find('\n', begin), output.size());
    const std::string line = output.substr(begin, end - begin);
    if (line.find_first_not_of(" -\r\t") != std::string::npos) {
      return line;
    }
    begin = end + 1;
  }
  return "it said nothing";
}

std::string DescribeGpus(int count) {
  std::vector<std::string> gpus;
  for (int i = 0; i < count; ++i) {
    const GpuInfo gpu = QueryGpu(i);
    gpus.push_back(fmt::format("{}: {} ({}.{}), {} of {} free",
                               i,
                               gpu.name,
                               gpu.major,
                               gpu.minor,
                               FormatBytes(gpu.free_bytes),
                               FormatBytes(gpu.total_bytes)));
  }
  return fmt::format("{}", fmt::join(gpus, "; "));
}

HealthCheck WithoutGpu() {
  const std::string driver = DriverLine();
  HealthCheck check = {
      .name = "CUDA", .health = Health::kGood, .detail = "no GPU: runs compute on the CPU", .cure = ""};
  if (!driver.empty() && kBuiltWithCuda) {
    check.health = Health::kFault;
    check.detail = fmt::format("the driver is there ({}), but CUDA finds no GPU", driver);
    check.cure =
        "look at nvidia-smi and at CUDA_VISIBLE_DEVICES; in a container start it with --gpus all; a driver that is "
        "older "
        "than this program's CUDA must be replaced";
  } else if (!driver.empty()) {
    check.health = Health::kWarning;
    check.detail = fmt::format("there is a GPU ({}), and this program was built without CUDA", driver);
    check.cure = "build the other one: cmake --preset cuda && ninja -C build/cuda ksa";
  }
  return check;
}

}  // namespace

HealthCheck CheckGpus() {
  const int count = GpuCount();
  if (count == 0) {
    return WithoutGpu();
  }
  try {
    HealthCheck check = {.name = "CUDA", .health = Health::kGood, .detail = DescribeGpus(count), .cure = ""};
    for (int i = 0; i < count; ++i) {
      const GpuInfo gpu = QueryGpu(i);
      if (gpu.major < 8) {
        check.health = Health::kFault;
        check.cure =
            fmt::format("GPU {} is older than compute capability 8.0: leave it out with CUDA_VISIBLE_DEVICES", i);
      } else if (gpu.total_bytes - gpu.free_bytes > 2 * kGiB && check.health == Health::kGood) {
        check.health = Health::kWarning;
        check.cure =
            fmt::format("another process holds memory of GPU {}: end it (nvidia-smi), or leave the GPU out", i);
      }
    }
    return check;
  } catch (const Error& error) {
    return {.name = "CUDA", .health = Health::kFault, .detail = error.what(), .cure = "look at nvidia-smi and dmesg"};
  }
}

HealthCheck CheckNccl(int gpus) {
  if (NcclIsBuilt()) {
    return {.name = "NCCL", .health = Health::kGood, .detail = NcclVersion(), .cure = ""};
  }
  if (gpus > 1) {
    return {.name = "NCCL",
            .health = Health::kFault,
            .detail = fmt::format("{} GPUs, and this program was built without NCCL", gpus),
            .cure = "install libnccl-dev and build again: runs on several GPUs need it"};
  }
  return {.name = "NCCL", .health = Health::kGood, .detail = "not in this build, and not needed here", .cure = ""};
}

HealthCheck CheckMpi(const std::string& program) {
  HealthCheck check = {.name = "MPI", .health = Health::kFault, .detail = MpiLibrary(), .cure = ""};
  if (const Ended alone = RunAlone(); alone.code != 0) {
    check.detail += fmt::format("; one rank ends with {}: {}", alone.code, FirstWords(alone.output));
    check.cure = "mend what it says: no run starts without MPI; ulimit -n and ulimit -v must leave it room";
    return check;
  }
  const bool refuses_root = geteuid() == 0 && std::getenv("OMPI_ALLOW_RUN_AS_ROOT") == nullptr;
  const std::string line =
      ShellLine({"mpirun", "--timeout", "60",   "--oversubscribe", "--bind-to", "none",      "-np", "2",
                 program,  "bench",     "comm", "--device",        "cpu",       "--threads", "1",   "--mib",
                 "1",      "--repeat",  "1",    "--calls",         "1"});
  const Ended two =
      RunToItsEnd(std::string("KSA_WATCHDOG_SECONDS=30 OMPI_MCA_mpi_yield_when_idle=1 ") +
                  (refuses_root ? "OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 " : "") + line);
  if (two.code == 127) {
    check.health = Health::kWarning;
    check.detail += "; there is no mpirun in PATH";
    check.cure = "one rank needs none; for several install openmpi-bin, or load the module of your cluster";
  } else if (two.code != 0) {
    check.detail += fmt::format("; two ranks under mpirun end with {}: {}", two.code, FirstWords(two.output));
    check.cure = "run it by hand and read what it says: " + line;
  } else {
    check.health = refuses_root ? Health::kWarning : Health::kGood;
    check.detail += fmt::format("; two ranks exchange data ({:.1f} s)", two.seconds);
    check.cure = refuses_root
                     ? "mpirun refuses root: set OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 "
                       "(launch/mpirun.sh does), or use another user"
                     : "";
  }
  return check;
}

HealthCheck CheckRankMemory() {
  const std::array<char, 8> from = {'k', 's', 'a', 'm', 'e', 'm', 'r', 'y'};
  std::array<char, 8> to{};
  const iovec local = {to.data(), to.size()};
  const iovec remote = {const_cast<char*>(from.data()), from.size()};
  const char* copy = std::getenv("OMPI_MCA_btl_vader_single_copy_mechanism");
  if (process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == static_cast<ssize_t>(to.size()) && to == from) {
    return {
        .name = "rank memory", .health = Health::kGood, .detail = "ranks of a host may read each other's", .cure = ""};
  }
  const std::string words = std::system_category().message(errno);
  if (copy != nullptr && std::string(copy) == "none") {
    return {.name = "rank memory",
            .health = Health::kGood,
            .detail = fmt::format("reading another rank's is forbidden ({}), and MPI is told so", words),
            .cure = ""};
  }
  return {.name = "rank memory",
          .health = Health::kWarning,
          .detail = fmt::format("reading another rank's is forbidden here: {}", words),
          .cure = "set OMPI_MCA_btl_vader_single_copy_mechanism=none, or give the container --cap-add SYS_PTRACE"};
}

}  // namespace ksa
