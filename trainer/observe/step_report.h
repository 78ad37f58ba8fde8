// What is known after an update: one struct for the log line, metrics.jsonl and TensorBoard. Meaning of every value:
// docs/metrics.md.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "trainer/observe/validation_result.h"

namespace ksa {

struct StepReport {
  int64_t step = 0;       // updates done, this one included
  int64_t max_steps = 0;  // updates of the whole run
  int64_t tokens = 0;     // text tokens since the run's start
  double loss = 0;        // mean over the targets of the global batch
  double grad_norm = 0;   // global, before clipping
  double lr = 0;
  std::map<std::string, double> loss_terms;       // by name, without their weights; empty: the cross-entropy is all
  double max_logit = 0;                           // the largest logit of rows with a target
  double max_attention_lse = 0;                   // the largest log-sum-exp of a row of attention; not finite: none
  std::map<std::string, double> validation_loss;  // by source; empty when this update was not followed by validation
  std::vector<ValidationResult> validation;       // the same in full, in the order of the sources; no file keeps it

  std::map<std::string, double> task_accuracy;   // by task, 0..1; with a validation
  std::map<std::string, int64_t> solved_at;      // the updates at which tasks were first seen solved, so far
  std::vector<TaskResult> tasks;                 // the same in full, in the order of the tasks; no file keeps it
  std::map<std::string, double> loss_by_source;  // of training, NaN without targets; empty where there is one source

  double step_ms = 0;  // wall time of the update (mean over the updates since the last report)
  double tokens_per_second = 0;
  std::optional<double> mfu;  // 0..1; none on an unknown device
  int64_t memory = 0;         // bytes in use: device memory, or resident memory on CPU
  int64_t memory_total = 0;   // bytes of the device or host
  double data_wait_ms = 0;    // an update
  double comm_wait_ms = 0;    // an update
  double seconds = 0;         // wall time since the attempt's first update began
  double eta_seconds = 0;     // to the end of the run
};

}  // namespace ksa
