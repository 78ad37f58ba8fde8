// A fuzzer without instrumentation: mutates sound inputs for some seconds, each target in a process of its own, which a
// crash, an input that takes too long, an exception that is no ksa::Error or an exit code of no bad input ends. The
// input that did it is kept.
//
//   ksa_fuzz [--target NAME] [--seconds S] [--seed N] [--corpus DIR] [--keep DIR]
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "tests/fuzz/targets.h"

namespace ksa::testing {
namespace {

namespace fs = std::filesystem;

constexpr unsigned kMostSeconds = 20;         // of one input
constexpr size_t kLargest = size_t{1} << 18;  // bytes of one

struct Options {
  std::string target;  // empty: all
  double seconds = 2;  // a target
  uint64_t seed = 1;
  std::string corpus = "tests/fuzz/corpus";
  std::string keep = ".";
};

std::string Slurp(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

// What changes meaning in text formats, and numbers at the edges of types.
const std::vector<std::string>& Words() {
  static const std::vector<std::string> words = {"{",
                                                 "}",
                                                 "[",
                                                 "]",
                                                 ":",
                                                 ",",
                                                 "\"",
                                                 "'",
                                                 "\n",
                                                 "  ",
                                                 "- ",
                                                 "&a",
                                                 "*a",
                                                 "<<: ",
                                                 "null",
                                                 "true",
                                                 "-1",
                                                 "0",
                                                 "1e999",
                                                 "NaN",
                                                 "9223372036854775807",
                                                 "-9223372036854775808",
                                                 "18446744073709551616",
                                                 "4294967296",
                                                 "2147483648",
                                                 "65536",
                                                 "0.1",
                                                 "\\u0000",
                                                 "\\ud83d",
                                                 "\xff",
                                                 "\xc0\xaf",
                                                 std::string(1, '\0'),
                                                 "../",
                                                 "/",
                                                 "{\"a\":",
                                                 "[[[[[[[[",
                                                 "!!binary ",
                                                 "%",
                                                 "#"};
  return words;
}

class Mutator {
 public:
  Mutator(std::vector<std::string> seeds, uint64_t seed) : seeds_(std::move(seeds)), random_(seed) {}

  [[nodiscard]] std::string Next() {
    std::string bytes = seeds_[Below(seeds_.size())];
    const size_t changes = 1 + Below(Below(4) == 0 ? 32 : 4);
    for (size_t i = 0; i < changes; ++i) {
      Change(bytes);
    }
    bytes.resize(std::min(bytes.size(), kLargest));
    return bytes;
  }

 private:
  [[nodiscard]] size_t Below(size_t bound) {
    return bound == 0 ? 0 : std::uniform_int_distribution<size_t>(0, bound - 1)(random_);
  }

  void Change(std::string& bytes) {
    const size_t at = Below(bytes.size() + 1);
    const size_t length = std::min(bytes.size() - at, 1 + Below(Below(3) == 0 ? 4096 : 16));
    switch (Below(9)) {
      case 0:  // a bit
        if (at < bytes.size()) {
          bytes[at] = static_cast<char>(bytes[at] ^ (1 << Below(8)));
        }
        break;
      case 1:  // a byte
        if (at < bytes.size()) {
          bytes[at] = static_cast<char>(Below(256));
        }
        break;
      case 2:
        bytes.erase(at, length);
        break;
      case 3:  // a part once more
        bytes.insert(Below(bytes.size() + 1), bytes.substr(at, length));
        break;
      case 4:
        bytes.resize(at);
        break;
      case 5:
        bytes.insert(at, Words()[Below(Words().size())]);
        break;
      case 6: {  // a word instead of a part
        bytes.replace(at, std::min<size_t>(length, 8), Words()[Below(Words().size())]);
        break;
      }
      case 7: {  // a number at the edge of its type, as bytes
        constexpr uint64_t kEdges[] = {
            0, 1, 0x7f, 0xff, 0x7fff, 0xffff, 0x7fffffff, 0xffffffff, 0x7fffffffffffffff, ~uint64_t{0}};
        const uint64_t edge = kEdges[Below(std::size(kEdges))];
        const size_t width = std::min(size_t{1} << Below(4), bytes.size() - at);
        std::memcpy(bytes.data() + at, &edge, width);
        break;
      }
      default: {  // the end of another
        const std::string& other = seeds_[Below(seeds_.size())];
        bytes = bytes.substr(0, at) + other.substr(Below(other.size() + 1));
        break;
      }
    }
  }

  std::vector<std::string> seeds_;
  std::mt19937_64 random_;
};

std::vector<std::string> SeedsOf(const FuzzTarget& target, const Options& options, const std::string& folder) {
  std::vector<std::string> seeds = target.seeds(folder);
  const fs::path corpus = fs::path(options.corpus) / target.name;
  if (fs::is_directory(corpus)) {
    std::vector<fs::path> files(fs::directory_iterator(corpus), fs::directory_iterator{});
    std::sort(files.begin(), files.end());
    for (const fs::path& file : files) {
      seeds.push_back(Slurp(file));
    }
  }
  seeds.emplace_back();
  return seeds;
}

bool IsOfBadInput(ExitCode code) {
  return code == ExitCode::kBadData || code == ExitCode::kMissingInput || code == ExitCode::kIo ||
         code == ExitCode::kConfig;
}

// Whether the bytes were accepted. An error of another kind is a finding, and so is what is no Error at all.
bool Accepted(const FuzzTarget& target, const std::string& bytes, const std::string& folder) {
  try {
    target.read(bytes, folder);
    return true;
  } catch (const Error& error) {
    if (!IsOfBadInput(error.code())) {
      throw;
    }
    return false;
  }
}

// In the child: never returns. The input of the moment lies in `input`.
[[noreturn]] void Fuzz(const FuzzTarget& target,
                       const Options& options,
                       const std::string& folder,
                       const std::string& input) {
  const std::vector<std::string> seeds = SeedsOf(target, options, folder);
  Mutator mutator(seeds, options.seed);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(options.seconds);
  int64_t runs = 0;
  int64_t accepted = 0;
  try {
    while (std::chrono::steady_clock::now() < end || runs < static_cast<int64_t>(seeds.size())) {
      const std::string bytes =
          runs < static_cast<int64_t>(seeds.size()) ? seeds[static_cast<size_t>(runs)] : mutator.Next();
      std::ofstream(input, std::ios::binary | std::ios::trunc) << bytes;
      alarm(kMostSeconds);
      accepted += Accepted(target, bytes, folder) ? 1 : 0;
      alarm(0);
      ++runs;
    }
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}: {}\n", target.name, error.what());
    std::_Exit(1);
  }
  fmt::print(
      "{:<16} {:>8} inputs of {} seeds, {} accepted, no finding\n", target.name, runs, seeds.size() - 1, accepted);
  std::fflush(stdout);
  std::_Exit(seeds.size() > 1 && accepted > 0 ? 0 : 3);
}

// Whether nothing was found.
bool Run(const FuzzTarget& target, const Options& options) {
  std::string folder = (fs::temp_directory_path() / "ksa_fuzz_XXXXXX").string();
  if (mkdtemp(folder.data()) == nullptr) {
    return false;
  }
  const std::string input = folder + "/input";
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    Fuzz(target, options, folder, input);
  }
  int status = 0;
  waitpid(child, &status, 0);
  const bool good = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (WIFEXITED(status) && WEXITSTATUS(status) == 3) {
    fmt::print(stderr, "{}: no seed is accepted: the corpus or the target is wrong\n", target.name);
  } else if (!good) {
    const std::string kept = fmt::format("{}/finding-{}-{}", options.keep, target.name, options.seed);
    std::error_code ignored;
    fs::copy_file(input, kept, fs::copy_options::overwrite_existing, ignored);
    fmt::print(stderr,
               "{}: ended with {} {}; the input is {}\n",
               target.name,
               WIFSIGNALED(status) ? "signal" : "code",
               WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
               kept);
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return good;
}

Options ParseOptions(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--target") {
      options.target = value;
    } else if (name == "--seconds") {
      options.seconds = std::atof(value.c_str());
    } else if (name == "--seed") {
      options.seed = std::strtoull(value.c_str(), nullptr, 10);
    } else if (name == "--corpus") {
      options.corpus = value;
    } else if (name == "--keep") {
      options.keep = value;
    } else {
      Fail(ExitCode::kUsage, "unknown option '{}'", name);
    }
  }
  return options;
}

}  // namespace
}  // namespace ksa::testing

int main(int argc, char** argv) {
  try {
    const ksa::testing::Options options = ksa::testing::ParseOptions(argc, argv);
    bool good = true;
    int64_t count = 0;
    for (const ksa::testing::FuzzTarget& target : ksa::testing::FuzzTargets()) {
      if (options.target.empty() || options.target == target.name) {
        ++count;
        good = ksa::testing::Run(target, options) && good;
      }
    }
    if (count == 0) {
      fmt::print(stderr, "there is no target '{}'\n", options.target);
      return 64;
    }
    return good ? 0 : 1;
  } catch (const ksa::Error& error) {
    fmt::print(stderr, "ksa_fuzz: {}\n", error.what());
    return static_cast<int>(error.code());
  }
}
