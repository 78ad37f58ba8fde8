// `ksa bench …`: measured speed, as a table and for machines. Results: docs/performance.md.
#pragma once

#include <CLI/CLI.hpp>

namespace ksa {

void AddBenchCommand(CLI::App& app);

// One each, added to `bench`.
void AddBenchAttentionCommand(CLI::App& bench);
void AddBenchStepCommand(CLI::App& bench);
void AddBenchDataCommand(CLI::App& bench);
void AddBenchCommCommand(CLI::App& bench);
void AddBenchContextCommand(CLI::App& bench);
void AddBenchCheckpointCommand(CLI::App& bench);
void AddBenchDecodeCommand(CLI::App& bench);

}  // namespace ksa
