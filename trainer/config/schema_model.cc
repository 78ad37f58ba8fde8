// The keys of `model`, but for those of `model.attention`.
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
                        Size(0),
                        "required",
                        "width of the SwiGLU feed-forward; 0: blocks without one",
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

}  // namespace ksa
