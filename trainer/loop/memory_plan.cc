#include "trainer/loop/memory_plan.h"

#include "trainer/loop/imaginary_run.h"
#include "trainer/observe/log_line.h"

namespace ksa {

MemoryPlan PlanMemory(const Config& config, int ranks, int rank) {
  return Imagine(config, {.ranks = ranks, .rank = rank, .on_cpu = config.run.device == DeviceChoice::kCpu}).memory;
}

std::array<MemoryPlan::Segment, 7> MemoryPlan::Segments() const {
  return {{{"weights", "weights", weights},
           {"gradients", "gradients", gradients},
           {"master_weights", "master weights", master_weights},
           {"moments", "moments", moments},
           {"activations", "activations and scratch", activations},
           {"gaps", "gaps between them", unused},
           {"libraries", "libraries", libraries}}};
}

std::string MemoryPlan::Table() const {
  std::string text;
  const auto line = [&](const char* name, int64_t bytes) {
    text += fmt::format("  {:<24} {:>10}\n", name, FormatBytes(bytes));
  };
  for (const Segment& segment : Segments()) {
    line(segment.name, segment.bytes);
  }
  line("in all", Total());
  text.pop_back();
  return text;
}

void CheckFits(const MemoryPlan& plan, const GpuInfo& gpu) {
  if (plan.Total() <= gpu.free_bytes) {
    return;
  }
  Fail(ExitCode::kOutOfMemory,
       "the run needs {} of device memory, {} has {} free of {}\n{}\nlower training.micro_batch_size (auto: what fits) "
       "or "
       "training.sequence_length, set training.recompute: block, or spread the optimizer state over more data ranks "
       "(parallel.zero: 1)",
       FormatBytes(plan.Total()),
       gpu.name,
       FormatBytes(gpu.free_bytes),
       FormatBytes(gpu.total_bytes),
       plan.Table());
}

}  // namespace ksa
