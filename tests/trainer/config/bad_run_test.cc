// Wrong configurations and the exact report of each: the other sections.
// The first line of a snippet is line 2 of its file; line 1 includes a complete configuration.
#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

TEST(BadConfig, Data) {
  testing::ExpectReports({
      {"data: {train: []}\n", "t.yaml:2:15: data.train: needs at least one source"},
      {"data: {train: data/a}\n", "t.yaml:2:15: data.train: expected a list of {path, weight, name}, got 'data/a'"},
      {"data: {train: [data/a]}\n",
       "t.yaml:2:16: data.train[0]: expected a mapping of path, name, weight, got 'data/a'"},
      {"data: {train: [{weight: 2}]}\n", "t.yaml:2:16: data.train[0]: needs a path: the folder of the token shards"},
      {"data: {train: [{path: a, weight: 0}]}\n",
       "t.yaml:2:34: data.train[0].weight: must be greater than 0 and less than 1000000000000000, got 0"},
      {"data: {train: [{path: a, weight: -1}]}\n",
       "t.yaml:2:34: data.train[0].weight: must be greater than 0 and less than 1000000000000000, got -1"},
      {"data: {train: [{path: a, weight: 2047}, {path: b, weight: 1}]}\n",
       "t.yaml:2:15: data.train: the weight 1 of source 'b' rounds to 0 of 1024 samples; raise it or leave the source "
       "out"},
      {"data: {train: [{path: a, wieght: 1}]}\n",
       "t.yaml:2:26: data.train[0].wieght: unknown key; did you mean 'weight'?"},
      {"data: {train: [{path: a, path: b}]}\n",
       "t.yaml:2:26: data.train[0].path: duplicate key, first given on line 2; keep one of the two"},
      {"data: {train: [{path: a/x}, {path: b, name: y}, {path: b/x/}]}\n",
       "t.yaml:2:15: data.train[2].name: 'x' is the name of source 0 too; give each a name of its own"},
      {"data: {validation: [{path: a/x}, {path: b/x}]}\n",
       "t.yaml:2:20: data.validation[1].name: 'x' is the name of source 0 too; give each a name of its own"},
      {"data: {validation: [{path: a, weight: 1}]}\n",
       "t.yaml:2:31: data.validation[0].weight: unknown key; the keys here are path, name"},
      {"data: {on_corrupt: ignore}\n", "t.yaml:2:20: data.on_corrupt: expected one of abort, skip, got 'ignore'"},
  });
}

TEST(BadConfig, TrainingAndSchedule) {
  testing::ExpectReports({
      {"training: {sequence_length: 0}\n", "t.yaml:2:29: training.sequence_length: must be at least 1, got 0"},
      {"training: {global_batch_size: 6, micro_batch_size: 4}\n",
       "t.yaml:2:31: training.global_batch_size: 6 is not a multiple of micro_batch_size 4; change one of them"},
      {"training: {global_batch_size: 6}\nparallel: {data: 4}\n",
       "t.yaml:2:31: training.global_batch_size: 6 is not a multiple of micro_batch_size 1 x 4 data ranks; change one "
       "of them"},
      {"training: {global_batch_size: 6, micro_batch_size: auto}\nparallel: {data: 4}\n",
       "t.yaml:2:31: training.global_batch_size: 6 is not a multiple of 4 data ranks; change one of them"},
      {"training: {micro_batch_size: 0}\n", "t.yaml:2:30: training.micro_batch_size: must be at least 1, got 0"},
      {"training: {micro_batch_size: most}\n",
       "t.yaml:2:30: training.micro_batch_size: expected integer >= 1 or auto, got 'most'"},
      {"training: {max_tokens: 1000}\n",
       "t.yaml:2:24: training.max_tokens: given beside max_steps; remove one of them or set it to none"},
      {"training: {max_steps: none}\n", "t.yaml:2:23: training.max_steps: missing; give max_steps or max_tokens"},
      {"training: {max_steps: 0}\n", "t.yaml:2:23: training.max_steps: must be at least 1, got 0"},
      {"training: {hard_stop: 0}\n", "t.yaml:2:23: training.hard_stop: must be at least 1, got 0"},
      {"training: {precision: fp16}\n",
       "t.yaml:2:23: training.precision: expected fp32, bf16, fp64 or auto, got 'fp16'"},
      {"training: {on_nonfinite: rewind}\n",
       "t.yaml:2:26: training.on_nonfinite: expected one of abort, skip, got 'rewind'"},
      {"training: {spike_factor: 1}\n",
       "t.yaml:2:26: training.spike_factor: must be greater than 1, or 0 for none, got 1"},
      {"training: {spike_factor: -2}\n", "t.yaml:2:26: training.spike_factor: must be at least 0, got -2"},
      {"training: {max_skips: 0}\n", "t.yaml:2:23: training.max_skips: must be at least 1, got 0"},
      {"training: {recompute: full}\n",
       "t.yaml:2:23: training.recompute: expected one of none, attention, mlp, block, got 'full'"},
      {"training: {global_batch_size: 1048576, sequence_length: 1048576, max_steps: 1048577}\n",
       "t.yaml:2:77: training.max_steps: 1048577 updates of 1048576 x 1048576 tokens are more than 1152921504606846976 "
       "tokens; train for less"},
      {"schedule: {warmup_steps: 91}\n",
       "t.yaml:2:26: schedule.warmup_steps: 91 + decay_steps 10 (max_steps / 10) are more than max_steps 100; shorten "
       "one of them"},
      {"schedule: {warmup_steps: 51, decay_steps: 50}\n",
       "t.yaml:2:26: schedule.warmup_steps: 51 + decay_steps 50 are more than max_steps 100; shorten one of them"},
      {"schedule: {kind: cosine, warmup_steps: 101}\n",
       "t.yaml:2:40: schedule.warmup_steps: 101 is more than max_steps 100; shorten it"},
      {"schedule: {kind: linear}\n", "t.yaml:2:18: schedule.kind: expected one of wsd, cosine, constant, got 'linear'"},
      {"schedule: {warmup_steps: 60%, decay_steps: 41%}\n",
       "t.yaml:2:26: schedule.warmup_steps: 60 + decay_steps 41 are more than max_steps 100; shorten one of them"},
      {"schedule: {warmup_steps: 101%}\n",
       "t.yaml:2:26: schedule.warmup_steps: expected a percentage of max_steps from 0% to 100%, as in 5%, got '101%'"},
      {"schedule: {decay_steps: -5%}\n",
       "t.yaml:2:25: schedule.decay_steps: expected a percentage of max_steps from 0% to 100%, as in 5%, got '-5%'"},
      {"schedule: {decay: cosine}\n", "t.yaml:2:19: schedule.decay: expected one of linear, sqrt, got 'cosine'"},
      {"training: {max_steps: none, max_tokens: 1.5}\n",
       "t.yaml:2:41: training.max_tokens: expected a whole number of tokens, at most 2^60, as in 1000000, 1_000_000, "
       "1e9 "
       "or 100G, got '1.5'"},
      {"schedule: {warmup_steps: -1}\n", "t.yaml:2:26: schedule.warmup_steps: must be at least 0, got -1"},
  });
}

TEST(BadConfig, Optimizer) {
  testing::ExpectReports({
      {"optimizer: {lr: -1}\n", "t.yaml:2:17: optimizer.lr: must be at least 0, got -1"},
      {"optimizer: {lr: fast}\n", "t.yaml:2:17: optimizer.lr: expected a number, as in 0.1, got 'fast'"},
      {"optimizer: {min_lr: 2e-3}\n", "t.yaml:2:21: optimizer.min_lr: 0.002 is greater than lr 0.001; lower it"},
      {"optimizer: {betas: 0.9}\n", "t.yaml:2:20: optimizer.betas: expected a list of two numbers, got '0.9'"},
      {"optimizer: {betas: [0.9]}\n", "t.yaml:2:20: optimizer.betas: expected two numbers, [beta1, beta2], got 1"},
      {"optimizer: {betas: [0.9, 1.0]}\n",
       "t.yaml:2:26: optimizer.betas[1]: must be at least 0 and less than 1, got 1.0"},
      {"optimizer: {eps: 0}\n", "t.yaml:2:18: optimizer.eps: must be greater than 0, got 0"},
      {"optimizer: {weight_decay: -0.1}\n", "t.yaml:2:27: optimizer.weight_decay: must be at least 0, got -0.1"},
      {"optimizer: {clip_grad_norm: -1}\n", "t.yaml:2:29: optimizer.clip_grad_norm: must be at least 0, got -1"},
  });
}

TEST(BadConfig, Parallel) {
  testing::ExpectReports({
      {"parallel: {tensor: 2}\n", ""},
      {"parallel: {context: 4}\n", ""},
      {"parallel: {tensor: 0}\n", "t.yaml:2:20: parallel.tensor: must be at least 1, got 0"},
      {"parallel: {tensor: 3}\n",
       "t.yaml:2:20: parallel.tensor: 3 does not divide num_attention_heads 4; this model takes 1, 2, 4"},
      {"model: {num_attention_heads: 6, num_key_value_heads: 3, hidden_size: 36}\nparallel: {tensor: 2}\n",
       "t.yaml:3:20: parallel.tensor: 2 neither divides num_key_value_heads 3 nor is a multiple of it; this model "
       "takes "
       "1, 3, 6"},
      {"model: {intermediate_size: 3}\nparallel: {tensor: 4}\n",
       "t.yaml:3:20: parallel.tensor: 4 ranks cannot share 3 columns of intermediate_size; this model takes 1, 2"},
      {"model: {vocab_size: 3}\nparallel: {tensor: 4}\n",
       "t.yaml:3:20: parallel.tensor: 4 ranks cannot share 3 rows of vocab_size; this model takes 1, 2"},
      {"parallel: {context: 5}\n",
       "t.yaml:2:21: parallel.context: 5 ranks hold two slices of whole chunks each, but 64 tokens are 8 chunk(s) of "
       "8; "
       "use at most 4, smaller chunks or longer sequences"},
      {"training: {sequence_length: 20}\nparallel: {context: 2}\n",
       "t.yaml:3:21: parallel.context: 2 ranks hold two slices of whole chunks each, but 20 tokens are 3 chunk(s) of "
       "8; "
       "use at most 1, smaller chunks or longer sequences"},
      {"model: {attention: {pattern: [full]}}\nparallel: {context: 33}\n",
       "t.yaml:3:21: parallel.context: 33 ranks hold two slices of whole chunks each, but 64 tokens are 64 chunk(s) of "
       "1; use at most 32, smaller chunks or longer sequences"},
      {"parallel: {zero: 2}\n", "t.yaml:2:18: parallel.zero: must be at most 1, got 2"},
      {"parallel: {data: 0}\n", "t.yaml:2:18: parallel.data: must be at least 1, got 0"},
      {"parallel: {sequence_parallel: true}\n", "t.yaml:2:31: parallel.sequence_parallel: needs tensor > 1; remove it"},
  });
}

TEST(BadConfig, Rest) {
  testing::ExpectReports({
      {"checkpoint: {interval: 0}\n", "t.yaml:2:24: checkpoint.interval: must be at least 1, got 0"},
      {"checkpoint: {keep_last: 1}\n", "t.yaml:2:25: checkpoint.keep_last: must be at least 2, got 1"},
      {"checkpoint: {keep_every: -1}\n", "t.yaml:2:26: checkpoint.keep_every: must be at least 0, got -1"},
      {"checkpoint: {async: yes}\n", "t.yaml:2:21: checkpoint.async: expected true or false, got 'yes'"},
      {"checkpoint: {allow_change: optimizer.lr}\n",
       "t.yaml:2:28: checkpoint.allow_change: expected a list of keys, got 'optimizer.lr'"},
      {"checkpoint: {allow_change: [lr]}\n",
       "t.yaml:2:28: checkpoint.allow_change[0]: unknown key here; 'lr' belongs in section 'optimizer'"},
      {"checkpoint: {allow_change: [optimizer.lrr]}\n",
       "t.yaml:2:28: checkpoint.allow_change[0]: unknown key; did you mean 'optimizer.lr'?"},
      {"checkpoint: {allow_change: [training.precision]}\n",
       "t.yaml:2:28: checkpoint.allow_change[0]: no resume may change training.precision; start a new run instead"},
      {"evaluation: {interval: -1}\n", "t.yaml:2:24: evaluation.interval: must be at least 0, got -1"},
      {"evaluation: {batches: 0}\n", "t.yaml:2:23: evaluation.batches: must be at least 1, got 0"},
      {"evaluation: {batches: every}\n", "t.yaml:2:23: evaluation.batches: expected integer >= 1 or all, got 'every'"},
      {"logging: {interval: 0}\n", "t.yaml:2:21: logging.interval: must be at least 1, got 0"},
      {"logging: {tensorboard: no}\n", "t.yaml:2:24: logging.tensorboard: expected true or false, got 'no'"},
  });
}

}  // namespace
}  // namespace ksa
