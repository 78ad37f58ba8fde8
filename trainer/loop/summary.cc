#include "trainer/loop/summary.h"

#include <map>
#include <optional>

#include <fmt/core.h>

#include "model/ksa/cost.h"
#include "trainer/loop/targets.h"
#include "trainer/observe/log_line.h"
#include "trainer/step/cores.h"

namespace ksa {
namespace {

std::string DescribeParameters(const ParameterStore& store) {
  std::map<ParameterKind, int64_t> groups;
  for (const Parameter& parameter : store.parameters()) {
    groups[parameter.spec.kind] += parameter.spec.shape.size();
  }
  std::string text = fmt::format("parameters {}:", FormatCount(static_cast<double>(store.element_count())));
  const char* separator = " ";
  for (const auto& [kind, count] : groups) {
    text += fmt::format("{}{} {}", separator, NameOf(kind), FormatCount(static_cast<double>(count)));
    separator = ", ";
  }
  return text;
}

std::string DescribeMemory(const ParameterStore& store) {
  const auto bytes = [](const TensorView& x) { return FormatBytes(x.bytes()); };
  const int64_t master = store.master_bytes();
  return fmt::format("memory of this rank: weights {}, gradients {}, master weights {}, moments {}",
                     bytes(store.weights()),
                     bytes(store.grads()),
                     master > 0 ? FormatBytes(master) : "the weights themselves",
                     FormatBytes(2 * store.exp_avg().bytes()));
}

std::vector<std::string> DescribeData(const Config& config, const Dataset& dataset) {
  std::vector<std::string> lines;
  for (const SourceInfo& source : dataset.train_sources()) {
    if (source.endless()) {
      lines.push_back(fmt::format("train {}: a task, share {}/1024", source.name, source.share));
      continue;
    }
    lines.push_back(fmt::format("train {}: {} tokens, {} documents, {} samples, share {}/1024",
                                source.name,
                                FormatCount(static_cast<double>(source.tokens)),
                                FormatCount(static_cast<double>(source.documents)),
                                source.samples,
                                source.share));
  }
  for (const SourceInfo& source : dataset.validation_sources()) {
    if (source.endless()) {
      lines.push_back(fmt::format("validation {}: a task", source.name));
      continue;
    }
    lines.push_back(fmt::format("validation {}: {} tokens, {} samples",
                                source.name,
                                FormatCount(static_cast<double>(source.tokens)),
                                source.samples));
  }
  const double tokens = static_cast<double>(config.training.max_steps) * config.training.global_batch_size *
                        config.training.sequence_length;
  const std::optional<int64_t> epoch = dataset.TokensPerEpoch();
  lines.push_back(fmt::format("budget: {} updates of {} x {} tokens = {} tokens{}",
                              config.training.max_steps,
                              config.training.global_batch_size,
                              config.training.sequence_length,
                              FormatCount(tokens),
                              epoch ? fmt::format(", {:.2f} epochs of {} tokens",
                                                  tokens / static_cast<double>(*epoch),
                                                  FormatCount(static_cast<double>(*epoch)))
                                    : ""));
  return lines;
}

}  // namespace

std::vector<std::string> StartSummary(const Config& config,
                                      const ParameterStore& store,
                                      const Dataset& dataset,
                                      const Runtime& runtime) {
  const ProcessMesh& mesh = runtime.mesh();
  const int32_t length = config.training.sequence_length;
  const std::optional<double> quota = CpuQuota();
  std::vector<std::string> lines;
  lines.push_back(fmt::format("run {} in {}", config.run.name, config.run.dir));
  lines.push_back(fmt::format("{} rank(s): data {} x context {} x tensor {}; {}, {} thread(s) a rank{}, {}",
                              mesh.shape().size(),
                              mesh.shape().data,
                              mesh.shape().context,
                              mesh.shape().tensor,
                              runtime.gpu().has_value() ? runtime.gpu()->name : "cpu",
                              runtime.stream().threads,
                              quota.has_value() ? fmt::format(" (the CPU quota is {:.4g} cores)", *quota) : "",
                              NameOf(*config.training.precision)));
  lines.push_back(DescribeParameters(store));
  for (std::string& line : DescribeData(config, dataset)) {
    lines.push_back(std::move(line));
  }
  lines.push_back(
      fmt::format("forward {} FLOPs a text token (live rows, visible pairs, head); {:.1f} keys a text query",
                  FormatCount(ForwardFlopsPerToken(config.model, length, MeanTargets(config))),
                  KeysPerTextQuery(config.model, length)));
  lines.push_back(DescribeMemory(store));
  return lines;
}

}  // namespace ksa
