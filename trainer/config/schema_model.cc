// The keys of `model`.
#include <algorithm>

#include <fmt/core.h>

#include "trainer/config/schema.h"

namespace ksa {
namespace {

Codec<int32_t> Size(int32_t least = 1, int32_t most = kLargestSize) {
  return IntegerCodec<int32_t>(least, most);
}

template <typename T>
Key ModelKey(const std::string& name,
             const Codec<T>& codec,
             const std::string& default_text,
             const std::string& doc,
             T& (*at)(Draft&)) {
  return MakeKey<T>("model." + name, codec, default_text, doc, ChangeClass::kRefused, at);
}

Codec<InitializerRange> InitializerCodec() {
  const Codec<double> number = NumberCodec(0.0, true);
  return {"number greater than 0, or fan_in",
          [number](const YamlNode& node, const Reporter& reporter, InitializerRange& out) {
            if (node.kind == YamlNode::Kind::kScalar && node.text == "fan_in") {
              out = {true, InitializerRange{}.std};
              return true;
            }
            if (node.kind == YamlNode::Kind::kScalar && node.text.starts_with("fan")) {
              return reporter.Fail(node.place, "expected a number or fan_in, got " + Describe(node));
            }
            out.fan_in = false;
            return number.read(node, reporter, out.std);
          },
          [number](const InitializerRange& value) { return value.fan_in ? "fan_in" : number.write(value.std); }};
}

Codec<LayerKind> KindCodec() {
  Codec<LayerKind> codec = EnumCodec<LayerKind>(
      {{"ksa", LayerKind::kKsa}, {"full", LayerKind::kFull}, {"swa", LayerKind::kSwa}, {"sca", LayerKind::kSca}});
  const auto known = codec.read;
  codec.read = [known](const YamlNode& node, const Reporter& reporter, LayerKind& out) {
    if (node.kind == YamlNode::Kind::kScalar && (node.text == "gdn" || node.text == "mla")) {
      return reporter.Fail(
          node.place, fmt::format("layers of kind {} are not supported yet; use ksa, full, swa or sca", node.text));
    }
    return known(node, reporter, out);
  };
  return codec;
}

bool ReadEntryMapping(const YamlNode& node, const Reporter& reporter, PatternEntry& out) {
  bool has_kind = false;
  const YamlNode* chunks = nullptr;
  const YamlNode* tokens = nullptr;
  const auto note = [](const YamlNode*& place, const Codec<int32_t>& codec, std::optional<int32_t>& value) {
    return [&place, codec, &value](const YamlNode& field, const Reporter& at) {
      place = &field;
      return codec.read(field, at, value.emplace());
    };
  };
  bool good = ReadItem(node,
                       reporter,
                       {{"kind",
                         [&](const YamlNode& field, const Reporter& at) {
                           has_kind = true;
                           return KindCodec().read(field, at, out.kind);
                         }},
                        {"window_chunks", note(chunks, Size(0), out.window_chunks)},
                        {"window", note(tokens, Size(), out.window_tokens)}});
  if (node.kind != YamlNode::Kind::kMapping) {
    return false;
  }
  if (!has_kind) {
    return reporter.Fail(node.place, "needs a kind: ksa, full, swa or sca");
  }
  if (!good) {
    return false;
  }
  const std::string kind = KindCodec().write(out.kind);
  if (chunks != nullptr && out.kind != LayerKind::kKsa && out.kind != LayerKind::kSca) {
    good = reporter.Field("window_chunks")
               .Fail(chunks->place, fmt::format("a {} layer has no window_chunks; remove it", kind));
  }
  if (tokens != nullptr && out.kind != LayerKind::kSwa) {
    good = reporter.Field("window").Fail(tokens->place,
                                         fmt::format("a {} layer has no window in tokens; {}",
                                                     kind,
                                                     out.kind == LayerKind::kFull ? "remove it" : "use window_chunks"));
  }
  return good;
}

std::string WriteEntry(const PatternEntry& entry) {
  const std::string kind = KindCodec().write(entry.kind);
  if (entry.window_chunks) {
    return fmt::format("{{kind: {}, window_chunks: {}}}", kind, *entry.window_chunks);
  }
  return entry.window_tokens ? fmt::format("{{kind: {}, window: {}}}", kind, *entry.window_tokens) : kind;
}

Codec<std::vector<PatternEntry>> PatternCodec() {
  const Codec<PatternEntry> entry = {"layer kind",
                                     [](const YamlNode& node, const Reporter& reporter, PatternEntry& out) {
                                       return node.kind == YamlNode::Kind::kScalar
                                                  ? KindCodec().read(node, reporter, out.kind)
                                                  : ReadEntryMapping(node, reporter, out);
                                     },
                                     WriteEntry};
  Codec<std::vector<PatternEntry>> codec = ListCodec(entry, "list of layer kinds (ksa, full, swa, sca)");
  const auto any = codec.read;
  codec.read = [any](const YamlNode& node, const Reporter& reporter, std::vector<PatternEntry>& out) {
    if (node.kind == YamlNode::Kind::kSequence && node.items.empty()) {
      return reporter.Fail(node.place, "names no layer kind; list at least one of ksa, full, swa, sca");
    }
    return any(node, reporter, out);
  };
  return codec;
}

std::vector<Key> KsaKeys() {
  const auto ksa = [](const std::string& name) { return "attention.ksa." + name; };
  const Codec<std::optional<int64_t>> step = OptionalCodec(IntegerCodec<int64_t>(0), "none");
  return {
      ModelKey<int32_t>(ksa("chunk_size"),
                        Size(),
                        "8",
                        "k: text tokens a chunk, the compression ratio",
                        [](Draft& d) -> int32_t& { return d.config.model.ksa.chunk_size; }),
      ModelKey<int32_t>(ksa("summary_tokens"),
                        Size(1, 64),
                        "1",
                        "m: summary tokens a chunk",
                        [](Draft& d) -> int32_t& { return d.config.model.ksa.summary_tokens; }),
      ModelKey<int32_t>(ksa("window_chunks"),
                        Size(0),
                        "128",
                        "w: earlier chunks whose text stays visible",
                        [](Draft& d) -> int32_t& { return d.config.model.ksa.window_chunks; }),
      ModelKey<TextPositions>(
          ksa("text_positions"),
          EnumCodec<TextPositions>({{"origin", TextPositions::kOrigin}, {"inner_chunk", TextPositions::kInnerChunk}}),
          "origin",
          "RoPE position of text token i: i, or i mod k",
          [](Draft& d) -> TextPositions& { return d.config.model.ksa.text_positions; }),
      ModelKey<SummaryPositions>(ksa("summary_positions"),
                                 EnumCodec<SummaryPositions>({{"chunk_end", SummaryPositions::kChunkEnd},
                                                              {"chunk_start", SummaryPositions::kChunkStart},
                                                              {"zero", SummaryPositions::kZero}}),
                                 "chunk_end",
                                 "RoPE position of the summaries in their chunk",
                                 [](Draft& d) -> SummaryPositions& { return d.config.model.ksa.summary_positions; }),
      ModelKey<FullLayers>(ksa("full_layers"),
                           EnumCodec<FullLayers>({{"attend", FullLayers::kAttend}, {"bypass", FullLayers::kBypass}}),
                           "attend",
                           "what summary rows do in full, swa and sca layers",
                           [](Draft& d) -> FullLayers& { return d.config.model.ksa.full_layers; }),
      ModelKey<bool>(ksa("independent.embedding"),
                     BoolCodec(),
                     "true",
                     "summaries start from a table of their own, else from m extra vocabulary rows",
                     [](Draft& d) -> bool& { return d.config.model.ksa.independent.embedding; }),
      ModelKey<bool>(ksa("independent.qkv"),
                     BoolCodec(),
                     "true",
                     "summary rows have their own q, k, v projections",
                     [](Draft& d) -> bool& { return d.config.model.ksa.independent.qkv; }),
      ModelKey<bool>(ksa("independent.norm"),
                     BoolCodec(),
                     "false",
                     "summary rows have their own input norm",
                     [](Draft& d) -> bool& { return d.config.model.ksa.independent.norm; }),
      ModelKey<bool>(ksa("independent.qk_norm"),
                     BoolCodec(),
                     "false",
                     "own q and k norms for the own projections; needs independent.qkv",
                     [](Draft& d) -> bool& { return d.config.model.ksa.independent.qk_norm; }),
      ModelKey<std::optional<int64_t>>(
          ksa("anneal.start_step"),
          step,
          "none",
          "update after which the own projections begin to give way to the base ones; needs independent.qkv",
          [](Draft& d) -> std::optional<int64_t>& { return d.anneal_start_step; }),
      ModelKey<std::optional<int64_t>>(ksa("anneal.end_step"),
                                       step,
                                       "none",
                                       "update from which only the base projections count",
                                       [](Draft& d) -> std::optional<int64_t>& { return d.anneal_end_step; }),
  };
}

}  // namespace

std::vector<Key> ModelKeys() {
  const Codec<std::optional<int32_t>> derived = OptionalCodec(Size(), "");
  return {
      ModelKey<int32_t>("vocab_size",
                        Size(),
                        "required",
                        "token ids, those of summaries not counted",
                        [](Draft& d) -> int32_t& { return d.config.model.vocab_size; }),
      ModelKey<int32_t>("hidden_size",
                        Size(),
                        "required",
                        "width of the residual stream",
                        [](Draft& d) -> int32_t& { return d.config.model.hidden_size; }),
      ModelKey<int32_t>("intermediate_size",
                        Size(),
                        "required",
                        "width of the SwiGLU feed-forward",
                        [](Draft& d) -> int32_t& { return d.config.model.intermediate_size; }),
      ModelKey<int32_t>("num_hidden_layers",
                        Size(1, 100000),
                        "required",
                        "layers",
                        [](Draft& d) -> int32_t& { return d.config.model.num_hidden_layers; }),
      ModelKey<int32_t>("num_attention_heads",
                        Size(),
                        "required",
                        "query heads",
                        [](Draft& d) -> int32_t& { return d.config.model.num_attention_heads; }),
      ModelKey<std::optional<int32_t>>("num_key_value_heads",
                                       derived,
                                       "num_attention_heads",
                                       "key/value heads; divides num_attention_heads",
                                       [](Draft& d) -> std::optional<int32_t>& { return d.num_key_value_heads; }),
      ModelKey<std::optional<int32_t>>("head_dim",
                                       derived,
                                       "hidden_size / num_attention_heads",
                                       "width of a head; even",
                                       [](Draft& d) -> std::optional<int32_t>& { return d.head_dim; }),
      ModelKey<double>("rope_theta",
                       NumberCodec(0.0, true),
                       "10000",
                       "base of the rotary positions",
                       [](Draft& d) -> double& { return d.config.model.rope_theta; }),
      ModelKey<double>("rms_norm_eps",
                       NumberCodec(0.0, true),
                       "1e-06",
                       "added to the mean square in every norm",
                       [](Draft& d) -> double& { return d.config.model.rms_norm_eps; }),
      ModelKey<bool>("qk_norm",
                     BoolCodec(),
                     "true",
                     "RMS norm of every query and key head before RoPE",
                     [](Draft& d) -> bool& { return d.config.model.qk_norm; }),
      ModelKey<bool>("tie_word_embeddings",
                     BoolCodec(),
                     "false",
                     "the head is the token embedding",
                     [](Draft& d) -> bool& { return d.config.model.tie_word_embeddings; }),
      ModelKey<InitializerRange>("initializer_range",
                                 InitializerCodec(),
                                 "0.02",
                                 "standard deviation of the initial weights; fan_in: 1/sqrt(columns) for matrices, 1 "
                                 "for embeddings",
                                 [](Draft& d) -> InitializerRange& { return d.config.model.initializer_range; }),
      ModelKey<std::optional<int32_t>>("max_position_embeddings",
                                       derived,
                                       "training.sequence_length",
                                       "longest sequence the model is meant for",
                                       [](Draft& d) -> std::optional<int32_t>& { return d.max_position_embeddings; }),
  };
}

std::vector<Key> AttentionKeys() {
  const auto optional = [](int32_t least) { return OptionalCodec(Size(least), "none"); };
  std::vector<Key> keys = {ModelKey<std::vector<PatternEntry>>(
      "attention.pattern",
      PatternCodec(),
      "[ksa, ksa, ksa, full]",
      "kinds of the layers, repeated over the depth; an entry may be {kind, window_chunks} or {kind: swa, window}",
      [](Draft& d) -> std::vector<PatternEntry>& { return d.pattern; })};
  for (Key& key : KsaKeys()) {
    keys.push_back(std::move(key));
  }
  keys.push_back(ModelKey<std::optional<int32_t>>(
      "attention.swa.window",
      optional(1),
      "none",
      "text keys that a query of a swa layer sees, itself included",
      [](Draft& d) -> std::optional<int32_t>& { return d.config.pattern_defaults.swa_window; }));
  keys.push_back(
      ModelKey<std::optional<int32_t>>("attention.sca.chunk_size",
                                       optional(1),
                                       "none",
                                       "tokens a chunk of sca layers; equals ksa.chunk_size if both",
                                       [](Draft& d) -> std::optional<int32_t>& { return d.sca_chunk_size; }));
  keys.push_back(ModelKey<std::optional<int32_t>>(
      "attention.sca.window_chunks",
      optional(0),
      "none",
      "earlier chunks that text of a sca layer sees",
      [](Draft& d) -> std::optional<int32_t>& { return d.config.pattern_defaults.sca_window_chunks; }));
  return keys;
}

}  // namespace ksa
