// `ksa data …`: text and foreign files to token shards, and what can be said about shards.
#pragma once

#include <string>

#include <CLI/CLI.hpp>

namespace ksa {

// Adds the sub-command `data` with its own sub-commands. Their callbacks do the work and throw ksa::Error.
void AddDataCommands(CLI::App& app);

// On stderr.
void PrintDataWarning(const std::string& warning);

// One each, added to `data`.
void AddDataTokenizeCommand(CLI::App& data);
void AddDataTrainTokenizerCommand(CLI::App& data);
void AddDataImportCommand(CLI::App& data);
void AddDataInspectCommand(CLI::App& data);
void AddDataVerifyCommand(CLI::App& data);
void AddDataMergeCommand(CLI::App& data);

}  // namespace ksa
