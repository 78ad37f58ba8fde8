// Cells side by side: what each of them gets of the machine, and whether so many fit into its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "trainer/config/sweep.h"

namespace ksa {

struct JobShare {
  int jobs = 1;
  std::vector<std::string> gpus;  // CUDA_VISIBLE_DEVICES of job j is gpus[j % size]; empty: as it is here
  int threads = 0;                // of each job whose configuration leaves them open; 0: as if it ran alone
};

// "0,1,3" -> numbers of GPUs. Error(kUsage): not such a list, or a GPU twice.
[[nodiscard]] std::vector<int> ParseGpuList(const std::string& text);

// What CUDA_VISIBLE_DEVICES has to say so that a process sees just one of `list`, which are numbered as this process
// sees them; `visible`: its own CUDA_VISIBLE_DEVICES, null: not set. Error(kUsage) where there are `count` GPUs and one
// of the list is beyond them.
[[nodiscard]] std::vector<std::string> NamesOfGpus(const std::vector<int>& list, const char* visible, size_t count);

// Free bytes of every GPU that is seen here, by number. Asked in a process of its own: this one would hold a context on
// each of them, for which memory is taken, as long as it lives.
[[nodiscard]] std::vector<int64_t> FreeGpuBytes();

// A cell on one rank, as planned.
struct CellMemory {
  std::string label;
  bool on_gpu = false;
  bool automatic = false;  // training.micro_batch_size: auto; planned as the whole batch, the most it may take
  int64_t bytes = 0;
};

// Of these cells, which have to run; `gpus`: whether there are any.
[[nodiscard]] std::vector<CellMemory> PlanCells(const Sweep& sweep, const std::vector<size_t>& cells, bool gpus);

// Memory that jobs may take: on the host, and on each GPU they are spread over (job j on the j-th, in turn).
struct JobMemory {
  int64_t host = 0;
  std::vector<int64_t> gpus;
};

// How many of these cells, whichever they are, fit side by side; at most `jobs`, 0: not even one.
[[nodiscard]] int JobsThatFit(const std::vector<CellMemory>& cells, const JobMemory& memory, int jobs);

// Error(kOutOfMemory) that names the number that fits, and the largest cell.
void CheckJobsFit(const std::vector<CellMemory>& cells, const JobMemory& memory, int jobs);

}  // namespace ksa
