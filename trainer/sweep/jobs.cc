#include "trainer/sweep/jobs.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <exception>
#include <map>
#include <system_error>

#include <fmt/core.h>

#include "kernels/core/error.h"
#include "kernels/core/gpu.h"
#include "trainer/config/load.h"
#include "trainer/loop/memory_plan.h"
#include "trainer/observe/log_line.h"

namespace ksa {
namespace {

std::vector<std::string> PartsOf(const std::string& text) {
  std::vector<std::string> parts(1);
  for (const char c : text) {
    if (c == ',') {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  return parts;
}

// All that memory depends on: cells that differ in seeds and rates alone are planned once.
std::string WhatIsPlanned(const Config& config) {
  std::string text;
  for (const auto& [key, value] : FlattenConfig(config)) {
    const bool counts = key.starts_with("model.") || key.starts_with("training.") || key.starts_with("parallel.") ||
                        key == "run.device" || key == "optimizer.kind" || key == "data.document_mask";
    text += counts ? fmt::format("{}={}\n", key, value) : "";
  }
  return text;
}

// The largest of the cells on a GPU, or on the host, side by side `jobs` at a time.
int64_t BytesOf(const std::vector<CellMemory>& cells, bool on_gpu, size_t jobs) {
  std::vector<int64_t> bytes;
  for (const CellMemory& cell : cells) {
    if (cell.on_gpu == on_gpu) {
      bytes.push_back(cell.bytes);
    }
  }
  std::sort(bytes.rbegin(), bytes.rend());
  int64_t sum = 0;
  for (size_t i = 0; i < std::min(jobs, bytes.size()); ++i) {
    sum += bytes[i];
  }
  return sum;
}

// Jobs of the GPU that has most of `jobs` spread over `gpus`.
size_t JobsOfOne(size_t jobs, size_t gpus) {
  return gpus == 0 ? jobs : (jobs + gpus - 1) / gpus;
}

bool Fits(const std::vector<CellMemory>& cells, const JobMemory& memory, size_t jobs) {
  const int64_t gpu = memory.gpus.empty() ? 0 : *std::min_element(memory.gpus.begin(), memory.gpus.end());
  return BytesOf(cells, false, jobs) <= memory.host && BytesOf(cells, true, JobsOfOne(jobs, memory.gpus.size())) <= gpu;
}

// In the child: free bytes of each GPU, one number a line.
void WriteFreeBytes(int to) {
  std::string text;
  try {
    for (int ordinal = 0; ordinal < GpuCount(); ++ordinal) {
      text += fmt::format("{}\n", QueryGpu(ordinal).free_bytes);
    }
  } catch (const std::exception& error) {
    text = fmt::format("error {}\n", error.what());
  }
  for (size_t done = 0; done < text.size();) {
    const ssize_t written = write(to, text.data() + done, text.size() - done);
    if (written <= 0) {
      break;
    }
    done += static_cast<size_t>(written);
  }
}

std::string ReadAll(int from) {
  std::string text;
  char buffer[4096];
  for (ssize_t got = 1; got > 0 || (got < 0 && errno == EINTR);) {
    got = read(from, buffer, sizeof(buffer));
    if (got > 0) {
      text.append(buffer, static_cast<size_t>(got));
    }
  }
  return text;
}

}  // namespace

std::vector<int> ParseGpuList(const std::string& text) {
  std::vector<int> list;
  for (const std::string& part : PartsOf(text)) {
    int number = -1;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), number);
    if (part.empty() || error != std::errc() || end != part.data() + part.size() || number < 0) {
      Fail(ExitCode::kUsage, "--gpus: expected numbers of GPUs with commas between them, such as 0,1, got '{}'", text);
    }
    if (std::find(list.begin(), list.end(), number) != list.end()) {
      Fail(ExitCode::kUsage,
           "--gpus {}: GPU {} is there twice; --jobs says how many cells run, in turn on the GPUs",
           text,
           number);
    }
    list.push_back(number);
  }
  return list;
}

std::vector<std::string> NamesOfGpus(const std::vector<int>& list, const char* visible, size_t count) {
  const std::vector<std::string> seen = visible == nullptr ? std::vector<std::string>() : PartsOf(visible);
  std::vector<std::string> names;
  for (const int number : list) {
    const auto at = static_cast<size_t>(number);
    if (at >= count) {
      Fail(ExitCode::kUsage, "--gpus: GPU {} is asked for, {} GPUs are seen here, from 0 on", number, count);
    }
    names.push_back(at < seen.size() ? seen[at] : std::to_string(number));
  }
  return names;
}

std::vector<int64_t> FreeGpuBytes() {
  int ends[2];
  if (pipe(ends) != 0) {
    Fail(ExitCode::kInternal, "a pipe cannot be made: {}", std::system_category().message(errno));
  }
  const pid_t child = fork();
  if (child == 0) {
    close(ends[0]);
    WriteFreeBytes(ends[1]);
    _exit(0);
  }
  close(ends[1]);
  const std::string text = child < 0 ? "error no process can be started\n" : ReadAll(ends[0]);
  close(ends[0]);
  while (child > 0 && waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
  }
  if (text.starts_with("error ")) {
    Fail(ExitCode::kInternal, "the GPUs cannot be asked for their memory: {}", text.substr(6, text.size() - 7));
  }
  std::vector<int64_t> bytes;
  for (size_t begin = 0; begin < text.size(); begin = text.find('\n', begin) + 1) {
    bytes.push_back(std::stoll(text.substr(begin)));
  }
  return bytes;
}

std::vector<CellMemory> PlanCells(const Sweep& sweep, const std::vector<size_t>& cells, bool gpus) {
  std::map<std::string, int64_t> planned;
  std::vector<CellMemory> memory;
  for (const size_t i : cells) {
    Config config = sweep.cells[i].config;
    ResolveDevice(config, gpus);
    CheckAgainstRanks(config, 1);
    CellMemory cell = {sweep.cells[i].label, config.run.device == DeviceChoice::kCuda, false, 0};
    cell.automatic = !config.training.micro_batch_size.has_value();
    config.training.micro_batch_size = config.training.micro_batch_size.value_or(
        static_cast<int32_t>(config.training.global_batch_size / *config.parallel.data));
    const auto [found, is_new] = planned.try_emplace(WhatIsPlanned(config), 0);
    if (is_new) {
      found->second = PlanMemory(config).Total();
    }
    cell.bytes = found->second;
    memory.push_back(cell);
  }
  return memory;
}

int JobsThatFit(const std::vector<CellMemory>& cells, const JobMemory& memory, int jobs) {
  while (jobs > 0 && !Fits(cells, memory, static_cast<size_t>(jobs))) {
    --jobs;
  }
  return jobs;
}

void CheckJobsFit(const std::vector<CellMemory>& cells, const JobMemory& memory, int jobs) {
  const int fit = JobsThatFit(cells, memory, jobs);
  if (fit == jobs || cells.empty()) {
    return;
  }
  const auto largest = std::max_element(
      cells.begin(), cells.end(), [](const CellMemory& a, const CellMemory& b) { return a.bytes < b.bytes; });
  const bool automatic = std::any_of(cells.begin(), cells.end(), [](const CellMemory& cell) { return cell.automatic; });
  const auto smallest = std::min_element(memory.gpus.begin(), memory.gpus.end());
  Fail(ExitCode::kOutOfMemory,
       "--jobs {}: so many cells do not fit side by side, {} {}; the largest ({}) needs {}, {} is free. Use --jobs {}, "
       "or "
       "lower training.micro_batch_size{} or training.sequence_length, or set training.recompute: block",
       jobs,
       fit,
       fit == 1 ? "does" : "do",
       largest->label,
       FormatBytes(largest->bytes),
       FormatBytes(largest->on_gpu && smallest != memory.gpus.end() ? *smallest : memory.host),
       std::max(fit, 1),
       automatic ? " (auto may take the whole batch, and is planned so)" : "");
}

}  // namespace ksa
