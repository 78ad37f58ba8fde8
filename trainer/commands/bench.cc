#include "trainer/commands/bench.h"

namespace ksa {

void AddBenchCommand(CLI::App& app) {
  CLI::App* bench = app.add_subcommand("bench", "Measured speed");
  bench->require_subcommand(1);
  AddBenchAttentionCommand(*bench);
  AddBenchStepCommand(*bench);
  AddBenchDataCommand(*bench);
  AddBenchCommCommand(*bench);
  AddBenchContextCommand(*bench);
  AddBenchCheckpointCommand(*bench);
  AddBenchDecodeCommand(*bench);
  bench->footer(
      "Examples:\n"
      "  ksa bench attention\n"
      "  ksa bench step --model configs/model/ksa_36m.yaml --sequence-length 1024 4096 --threads 2 --json step.json\n"
      "  ksa bench data --input corpus.txt --tokenizer byte bpe.model\n"
      "  ksa bench decode --model configs/model/ksa_4m.yaml --length 256 1024 --batch 1 8\n"
      "  mpirun -np 2 ksa bench comm\n"
      "  mpirun -np 2 ksa bench context\n"
      "  ksa bench checkpoint --model configs/model/ksa_4m.yaml --sequence-length 256");
}

}  // namespace ksa
