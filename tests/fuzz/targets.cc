#include "tests/fuzz/targets.h"

#include <fstream>
#include <iterator>

#include "data/files/paths.h"
#include "data/files/posix_file.h"
#include "data/shards/shard_index.h"
#include "data/shards/token_file.h"
#include "data/tokenizers/tokenizer.h"
#include "data/tools/json_field.h"
#include "data/tools/token_stream.h"
#include "kernels/core/error.h"
#include "trainer/checkpoint/manifest.h"
#include "trainer/checkpoint/piece_file.h"
#include "trainer/config/load.h"
#include "trainer/config/sweep.h"
#include "trainer/interop/hf_config.h"
#include "trainer/interop/safetensors_header.h"

namespace ksa::testing {
namespace {

std::string Slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

std::string Spill(const std::string& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  return path;
}

std::vector<std::string> NoSeeds(const std::string& /*folder*/) {
  return {};
}

// What is accepted says the same when it is written and read again.
void ReadConfig(const std::string& bytes, const std::string& /*folder*/) {
  const Config config = ParseConfig(bytes, "fuzz.yaml").config;
  KSA_CHECK(ParseConfig(RenderConfig(config), "again.yaml").config == config,
            "a configuration that changes when written");
}

void ReadSweep(const std::string& bytes, const std::string& folder) {
  static_cast<void>(LoadSweep(Spill(folder + "/sweep.yaml", bytes)));
}

std::vector<std::string> SweepSeeds(const std::string& folder) {
  const std::string base =
      Spill(folder + "/base.yaml",
            "run: {name: base}\n"
            "model: {vocab_size: 257, hidden_size: 32, intermediate_size: 64, num_hidden_layers: 4,\n"
            "  num_attention_heads: 4}\n"
            "data: {train: [{path: data/a}]}\n"
            "training: {sequence_length: 64, global_batch_size: 8, max_steps: 100}\n"
            "optimizer: {lr: 1e-3}\n");
  return {fmt::format("name: fuzz\nbase: {}\naxes: {{run.seed: [1, 2], optimizer.lr: [1e-3, 2e-3]}}\n", base),
          fmt::format("name: fuzz\nbase: {}\nzip:\n  - {{optimizer.lr: 1e-3, run.seed: 1}}\nvariants:\n"
                      "  full: {{model.attention.pattern: [full]}}\nmean_over: [run.seed]\n",
                      base)};
}

void ReadManifest(const std::string& bytes, const std::string& /*folder*/) {
  const Manifest manifest = ParseManifest(bytes, "manifest.json");
  KSA_CHECK(ParseManifest(RenderManifest(manifest), "again.json").meta == manifest.meta, "a manifest that changes");
}

void ReadIndex(const std::string& bytes, const std::string& folder) {
  Spill(folder + "/index.json", bytes);
  static_cast<void>(ReadShardIndex(folder));
}

void ReadShard(const std::string& bytes, const std::string& folder) {
  static_cast<void>(ReadTokenFileFrame(Spill(folder + "/shard.h5", bytes), static_cast<int64_t>(bytes.size())));
}

std::vector<std::string> ShardSeeds(const std::string& folder) {
  std::vector<std::string> seeds;
  for (const int64_t vocabulary : {int64_t{257}, int64_t{100000}}) {
    const std::string path = folder + "/seed.h5";
    RemoveAll(path);
    const TokenFileInfo info = {.vocab_size = vocabulary,
                                .max_token = 200,
                                .eos_id = 256,
                                .token_count = 1000,
                                .document_count = 3,
                                .tokenizer = "byte"};
    static_cast<void>(WriteTokenFileFrame(path, info));
    seeds.push_back(Slurp(path));
  }
  return seeds;
}

void ReadPiece(const std::string& bytes, const std::string& folder) {
  const PieceFile file(Spill(folder + "/piece.h5", bytes));
  static_cast<void>(file.FrameIsIntact());
  static_cast<void>(file.Read("weights/a.weight", DType::kF32, 40));
  static_cast<void>(file.Read("exp_avg/a.weight", DType::kF64, 20));
}

std::vector<std::string> PieceSeeds(const std::string& folder) {
  const std::string path = folder + "/seed_piece.h5";
  RemoveAll(path);
  std::vector<float> values(40, 0.5F);
  std::vector<double> moments(20, 0.25);
  const TensorView weights_view{values.data(), DType::kF32, {}, {40}};
  const TensorView moments_view{moments.data(), DType::kF64, {}, {20}};
  static_cast<void>(
      WritePieceFile(path, {{"weights/a.weight", weights_view}, {"exp_avg/a.weight", moments_view}}, Stream{}));
  return {Slurp(path)};
}

// A file of tokens of another program, and what lies beside it: the first 8 bytes say how long the second file is.
void ReadTokenFile(const std::string& bytes, const std::string& folder) {
  const size_t cut = bytes.empty() ? 0 : static_cast<unsigned char>(bytes.front()) * bytes.size() / 256;
  Spill(folder + "/tokens.bin", bytes.substr(cut));
  Spill(folder + "/tokens.idx", bytes.substr(0, cut));
  Spill(folder + "/tokens.bin.meta", bytes.substr(0, cut));
  int accepted = 0;
  for (const ImportFormat format :
       {ImportFormat::kLlmc, ImportFormat::kNanoGpt, ImportFormat::kMegatron, ImportFormat::kRaw}) {
    try {
      const TokenStream stream = OpenTokenStream(folder + "/tokens.bin", format, 50257);
      std::vector<int32_t> tokens;
      ReadTokens(stream, 0, std::min<int64_t>(stream.count, 1 << 16), 50257, tokens);
      ++accepted;
    } catch (const Error& error) {
      KSA_CHECK(error.code() == ExitCode::kBadData || error.code() == ExitCode::kMissingInput, "{}", error.what());
    }
  }
  if (accepted == 0) {
    Fail(ExitCode::kBadData, "no format of tokens");
  }
}

std::vector<std::string> TokenFileSeeds(const std::string& /*folder*/) {
  std::string llmc(1024, '\0');
  const auto put = [&](size_t at, uint32_t value) { llmc.replace(at, 4, reinterpret_cast<const char*>(&value), 4); };
  put(0, 20240520);
  put(4, 1);
  put(8, 10);
  const std::string megatron =
      std::string("MMIDIDX\0\0\1\0\0\0\0\0\0\0", 17) + std::string(1, '\x08') + std::string(64, '\0');
  return {
      llmc + std::string(20, '\1'), "\x80" + megatron, std::string(64, '\2'), "\x20uint16\n" + std::string(64, '\3')};
}

void Spell(const Tokenizer& tokenizer) {
  std::vector<int32_t> ids;
  tokenizer.Encode("The quick brown fox, 12345 \xc3\xa9\xe4\xb8\xad\n\n  end", ids);
  for (const int32_t id : ids) {
    KSA_CHECK(id >= 0 && id < tokenizer.vocab_size(), "an id of {} of {}", id, tokenizer.vocab_size());
  }
  static_cast<void>(tokenizer.Decode(ids));
}

void ReadSentencePiece(const std::string& bytes, const std::string& /*folder*/) {
  Spell(*MakeSentencePieceTokenizer("fuzz", bytes));
}

void ReadTokenizerJson(const std::string& bytes, const std::string& folder) {
  Spell(*MakeHuggingFaceTokenizer(folder + "/tokenizer.json", bytes));
}

void ReadRanks(const std::string& bytes, const std::string& folder) {
  Spell(*MakeRankTokenizer(folder + "/tokenizer.tiktoken", bytes));
}

void ReadJsonLine(const std::string& bytes, const std::string& /*folder*/) {
  std::string value;
  const std::string wrong = FindJsonField(bytes, "text", true, value);
  if (!wrong.empty()) {
    Fail(ExitCode::kBadData, "{}", wrong);
  }
  KSA_CHECK(value.size() <= bytes.size() * 3, "a value of {} bytes out of {}", value.size(), bytes.size());
}

void ReadSafetensors(const std::string& bytes, const std::string& folder) {
  static_cast<void>(ReadSafetensorsHeader(File::OpenForReading(Spill(folder + "/a.safetensors", bytes))));
}

void ReadHfConfig(const std::string& bytes, const std::string& /*folder*/) {
  static_cast<void>(ParseHfConfig(bytes, "config.json"));
}

}  // namespace

const std::vector<FuzzTarget>& FuzzTargets() {
  static const std::vector<FuzzTarget> targets = {{"config", ReadConfig, NoSeeds},
                                                  {"sweep", ReadSweep, SweepSeeds},
                                                  {"manifest", ReadManifest, NoSeeds},
                                                  {"index", ReadIndex, NoSeeds},
                                                  {"shard", ReadShard, ShardSeeds},
                                                  {"piece", ReadPiece, PieceSeeds},
                                                  {"tokens", ReadTokenFile, TokenFileSeeds},
                                                  {"sentencepiece", ReadSentencePiece, NoSeeds},
                                                  {"tokenizer_json", ReadTokenizerJson, NoSeeds},
                                                  {"tiktoken", ReadRanks, NoSeeds},
                                                  {"jsonl", ReadJsonLine, NoSeeds},
                                                  {"safetensors", ReadSafetensors, NoSeeds},
                                                  {"hf_config", ReadHfConfig, NoSeeds}};
  return targets;
}

}  // namespace ksa::testing
