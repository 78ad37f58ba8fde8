#include "trainer/commands/data_commands.h"

#include <fmt/core.h>

namespace ksa {

void PrintDataWarning(const std::string& warning) {
  fmt::print(stderr, "ksa: warning: {}\n", warning);
}

void AddDataCommands(CLI::App& app) {
  CLI::App* data = app.add_subcommand("data", "Token shards");
  data->require_subcommand(1);
  data->footer(
      "Examples:\n"
      "  ksa data tokenize --input book.txt --output shards/book --tokenizer byte --validation-fraction 0.01\n"
      "  ksa data inspect shards/book\n"
      "`ksa data COMMAND --help` tells more.");
  AddDataTokenizeCommand(*data);
  AddDataTrainTokenizerCommand(*data);
  AddDataImportCommand(*data);
  AddDataInspectCommand(*data);
  AddDataVerifyCommand(*data);
  AddDataMergeCommand(*data);
}

}  // namespace ksa
