// Wrong configurations and the exact report of each: the shape of a file and the types of values.
// The first line of a snippet is line 2 of its file; line 1 includes a complete configuration.
#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

TEST(BadConfig, Structure) {
  testing::ExpectReports({
      {"optimiser: {lr: 1}\n", "t.yaml:2:1: optimiser: unknown key; did you mean 'optimizer'?"},
      {"nonsense: 1\n",
       "t.yaml:2:1: nonsense: unknown section; the sections are run, model, data, training, optimizer, schedule, "
       "parallel, checkpoint, evaluation, logging"},
      {"run: 5\n",
       "t.yaml:2:6: run: expected a mapping of name, dir, seed, device, deterministic, threads, max_wall_minutes, got "
       "'5'"},
      {"model:\n  attention: [ksa]\n",
       "t.yaml:3:14: model.attention: expected a mapping of pattern, rope, short_conv, projection, ksa, swa, sca, hca, "
       "gdn, mla, got a list"},
      {"run:\n  nane: x\n", "t.yaml:3:3: run.nane: unknown key; did you mean 'run.name'?"},
      {"training: {learning_rate: 1e-3}\n",
       "t.yaml:2:12: training.learning_rate: unknown key; did you mean 'optimizer.lr'?"},
      {"learning_rate: 1e-3\n", "t.yaml:2:1: learning_rate: unknown key; did you mean 'optimizer.lr'?"},
      {"model: {n_heads: 4, n_layers: 2}\n",
       "t.yaml:2:9: model.n_heads: unknown key; did you mean 'model.num_attention_heads'?\nt.yaml:2:21: "
       "model.n_layers: unknown key; did you mean 'model.num_hidden_layers'?"},
      {"optimizer: {warmup_steps: 3}\n",
       "t.yaml:2:13: optimizer.warmup_steps: unknown key here; 'warmup_steps' belongs in section 'schedule'"},
      {"optimizer.lr: 1e-3\n",
       "t.yaml:2:1: optimizer.lr: unknown key; 'optimizer.lr' is written as nested mappings, not with dots"},
      {"optimizer:\n  schedule.kind: wsd\n",
       "t.yaml:3:3: optimizer.schedule.kind: unknown key; 'schedule.kind' is written as nested mappings, not with "
       "dots"},
      {"model: {attention: {chunk_size: 8}}\n",
       "t.yaml:2:21: model.attention.chunk_size: unknown key here; 'chunk_size' belongs in section "
       "'model.attention.ksa'"},
      {"model: {attention: {ksa: {windw_chunks: 8}}}\n",
       "t.yaml:2:27: model.attention.ksa.windw_chunks: unknown key; did you mean 'model.attention.ksa.window_chunks'?"},
      {"zzzz:\n  a: 1\n",
       "t.yaml:2:1: zzzz: unknown section; the sections are run, model, data, training, optimizer, schedule, parallel, "
       "checkpoint, evaluation, logging"},
      {"run: {seed: 1, seed: 2}\n", "t.yaml:2:16: run.seed: duplicate key, first given on line 2; keep one of the two"},
      {"run: {seed: 1}\nmodel: {}\nrun: {threads: 1}\n",
       "t.yaml:4:1: run: duplicate key, first given on line 2; keep one of the two"},
      {"run:\n  <<: {seed: 3}\n",
       "t.yaml:3:3: run.<<: merge keys are not supported; write the keys out, or use 'include'"},
      {"run: &anchor {seed: 3}\n", "t.yaml:2:6: run: anchors ('&name') are not supported; remove the anchor"},
      {"run: {seed: &s 3, threads: *s}\n",
       "t.yaml:2:13: run.seed: anchors ('&name') are not supported; remove the anchor\nt.yaml:2:28: run.threads: "
       "aliases ('*name') are not supported; write the value out"},
      {"run: {seed: !!int 3}\n",
       "t.yaml:2:13: run.seed: tags ('tag:yaml.org,2002:int') are not supported; remove the tag"},
      {"run: {[a]: 3}\n", "t.yaml:2:7: run: a key must be a name, not a list"},
      {"run: {~: 3}\n", "t.yaml:2:7: run: a key must be a name, not nothing"},
      {"include: [base.yaml]\n", "t.yaml:2:1: include: duplicate key, first given on line 1; keep one of the two"},
      {"run: {seed: 3}\n---\nrun: {seed: 4}\n",
       "t.yaml:3:1: document: a second document begins here; a configuration is one document"},
  });
}

TEST(BadConfig, Types) {
  testing::ExpectReports({
      {"run: {name: [a]}\n", "t.yaml:2:13: run.name: expected a text, got a list"},
      {"run: {name: ''}\n", "t.yaml:2:13: run.name: expected a text, got an empty one"},
      {"run: {name: a/b}\n",
       "t.yaml:2:13: run.name: must be usable as a folder name, got 'a/b'; remove '/' and a '~' in front"},
      {"run: {name: ..}\n",
       "t.yaml:2:13: run.name: must be usable as a folder name, got '..'; remove '/' and a '~' in front"},
      {"run:\n  name:\n", "t.yaml:3:3: run.name: has no value; give text or remove the key"},
      {"run: {dir: ~}\n", "t.yaml:2:7: run.dir: has no value; give text or remove the key"},
      {"run: {seed: -1}\n", "t.yaml:2:13: run.seed: must be at least 0, got -1"},
      {"run: {seed: 18446744073709551616}\n",
       "t.yaml:2:13: run.seed: must be at most 18446744073709551615, got 18446744073709551616"},
      {"run: {seed: 1e3}\n", "t.yaml:2:13: run.seed: expected a whole number in plain digits, as in 8, got '1e3'"},
      {"run: {device: gpu}\n", "t.yaml:2:15: run.device: expected one of auto, cpu, cuda, got 'gpu'"},
      {"run: {deterministic: yes}\n", "t.yaml:2:22: run.deterministic: expected true or false, got 'yes'"},
      {"run: {deterministic: 'true'}\n",
       "t.yaml:2:22: run.deterministic: expected true or false, got the quoted text 'true'"},
      {"run: {deterministic: True}\n", "t.yaml:2:22: run.deterministic: expected true or false, got 'True'"},
      {"run: {deterministic: 1}\n", "t.yaml:2:22: run.deterministic: expected true or false, got '1'"},
      {"run: {threads: 0}\n", "t.yaml:2:16: run.threads: must be at least 1, got 0"},
      {"run: {threads: 1025}\n", "t.yaml:2:16: run.threads: must be at most 1024, got 1025"},
      {"run: {threads: many}\n", "t.yaml:2:16: run.threads: expected integer from 1 to 1024 or auto, got 'many'"},
      {"model: {vocab_size: 2.0}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got '2.0'"},
      {"model: {vocab_size: '257'}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got the quoted text '257'"},
      {"model: {vocab_size: 0x101}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got '0x101'"},
      {"model: {vocab_size: 0257}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got '0257'"},
      {"model: {vocab_size: 1_000}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got '1_000'"},
      {"model: {vocab_size: +257}\n",
       "t.yaml:2:21: model.vocab_size: expected a whole number in plain digits, as in 8, got '+257'"},
      {"model: {vocab_size: 0}\n", "t.yaml:2:21: model.vocab_size: must be at least 1, got 0"},
      {"model: {vocab_size: 2147483648}\n",
       "t.yaml:2:21: model.vocab_size: must be at most 1073741824, got 2147483648"},
      {"model: {vocab_size: {a: 1}}\n", "t.yaml:2:21: model.vocab_size: expected a whole number, got a mapping"},
      {"model: {rope_theta: 0}\n", "t.yaml:2:21: model.rope_theta: must be greater than 0, got 0"},
      {"model: {rope_theta: .inf}\n", "t.yaml:2:21: model.rope_theta: expected a number, as in 0.1, got '.inf'"},
      {"model: {rope_theta: 1e999}\n",
       "t.yaml:2:21: model.rope_theta: must be greater than 0 and fit a 64-bit float, got 1e999"},
      {"model: {rope_theta: 1.2.3}\n", "t.yaml:2:21: model.rope_theta: expected a number, as in 0.1, got '1.2.3'"},
      {"model: {rms_norm_eps: -1e-6}\n", "t.yaml:2:23: model.rms_norm_eps: must be greater than 0, got -1e-6"},
      {"model: {rms_norm_eps: .nan}\n", "t.yaml:2:23: model.rms_norm_eps: expected a number, as in 0.1, got '.nan'"},
      {"model: {qk_norm: on}\n", "t.yaml:2:18: model.qk_norm: expected true or false, got 'on'"},
      {"model: {initializer_range: fanin}\n",
       "t.yaml:2:28: model.initializer_range: expected a number or fan_in, got 'fanin'"},
      {"model: {initializer_range: 0}\n", "t.yaml:2:28: model.initializer_range: must be greater than 0, got 0"},
  });
}

}  // namespace
}  // namespace ksa
