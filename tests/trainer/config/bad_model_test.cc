// Wrong configurations and the exact report of each: `model`.
// The first line of a snippet is line 2 of its file; line 1 includes a complete configuration.
#include <gtest/gtest.h>

#include "tests/trainer/config/support.h"

namespace ksa {
namespace {

TEST(BadConfig, Model) {
  testing::ExpectReports({
      {"model: {num_key_value_heads: 3}\n",
       "t.yaml:2:30: model.num_key_value_heads: 3 does not divide num_attention_heads 4; use a divisor of it"},
      {"model: {num_key_value_heads: 8}\n",
       "t.yaml:2:30: model.num_key_value_heads: 8 does not divide num_attention_heads 4; use a divisor of it"},
      {"model: {intermediate_size: -1}\n", "t.yaml:2:28: model.intermediate_size: must be at least 0, got -1"},
      {"model: {intermediate_size: 0}\ntraining: {recompute: mlp}\n",
       "t.yaml:3:23: training.recompute: mlp, but intermediate_size is 0: there is no MLP; use none, attention or "
       "block"},
      {"model: {head_dim: 7}\n", "t.yaml:2:19: model.head_dim: must be even (RoPE turns pairs), got 7"},
      {"model: {head_dim: 1026}\n", "t.yaml:2:19: model.head_dim: must be at most 1024, got 1026"},
      {"model: {hidden_size: 8192}\n",
       "t.yaml:2:22: model.hidden_size: hidden_size / num_attention_heads = 2048, but head_dim is at most 1024; take "
       "more heads or give model.head_dim"},
      {"model: {hidden_size: 30}\n",
       "t.yaml:2:22: model.hidden_size: 30 is not a multiple of num_attention_heads 4; change one of them or give "
       "model.head_dim"},
      {"model: {hidden_size: 36}\n",
       "t.yaml:2:22: model.hidden_size: hidden_size / num_attention_heads = 9 is an odd head_dim; change one of them "
       "or give an even model.head_dim"},
      {"model: {max_position_embeddings: 63}\n",
       "t.yaml:2:34: model.max_position_embeddings: 63 is less than training.sequence_length 64; raise it or shorten "
       "the sequences"},
  });
}

TEST(BadConfig, Learning) {
  testing::ExpectReports({
      {"training: {trainable: some}\n", "t.yaml:2:23: training.trainable: expected one of all, summaries, got 'some'"},
      {"training: {trainable: summaries}\nmodel: {attention: {ksa: {independent: {embedding: false}}}}\n",
       "t.yaml:2:23: training.trainable: summaries, but with independent.embedding: false their embedding is a part of "
       "the vocabulary's, which would learn as a whole; set independent.embedding: true, or train all"},
      {"training: {trainable: summaries}\nmodel: {attention: {pattern: [full]}}\n",
       "t.yaml:2:23: training.trainable: summaries, but no layer of the pattern has any (ksa, hca); train all"},
      {"training: {distill: {}}\nmodel: {attention: {pattern: [full]}}\n",
       "t.yaml:2:21: training.distill: every layer is full attention already: teacher and student are the same; remove "
       "it"},
      {"training: {distill: {f_lm: 0, f_kl: 0, f_attn: 0}}\n",
       "t.yaml:2:21: training.distill: f_lm, f_kl and f_attn are all 0: nothing is learned"},
      {"training: {distill: {f_kl: -1}}\n", "t.yaml:2:28: training.distill.f_kl: must be at least 0, got -1"},
      {"training: {z_loss: -1}\n", "t.yaml:2:20: training.z_loss: must be at least 0, got -1"},
  });
}

TEST(BadConfig, Mla) {
  testing::ExpectReports({
      {"model: {attention: {projection: mqa}}\n",
       "t.yaml:2:33: model.attention.projection: expected one of gqa, mla, got 'mqa'"},
      {"model: {attention: {pattern: [{kind: hca, projection: mla}]}}\n",
       "t.yaml:2:55: model.attention.pattern[0].projection: a hca layer has no projection; it takes window_chunks, "
       "rope, "
       "short_conv"},
      {"model: {attention: {pattern: [{kind: mla, projection: gqa}]}}\n",
       "t.yaml:2:55: model.attention.pattern[0].projection: a mla layer has no projection; it takes rope, short_conv"},
      {"model: {attention: {pattern: [{kind: mla, window: 3}]}}\n",
       "t.yaml:2:51: model.attention.pattern[0].window: a mla layer has no window; it takes rope, short_conv"},
      {"model: {attention: {pattern: [hca, full], projection: mla}}\n",
       "t.yaml:2:55: model.attention.projection: mla, but hca layers pool keys and values of their own; say it in the "
       "entries of other kinds"},
      {"model: {attention: {pattern: [mla], mla: {qk_rope_head_dim: 7}}}\n",
       "t.yaml:2:61: model.attention.mla.qk_rope_head_dim: must be even (RoPE turns pairs), got 7"},
      {"model: {attention: {pattern: [mla], mla: {qk_nope_head_dim: 1000}}}\n",
       "t.yaml:2:61: model.attention.mla.qk_nope_head_dim: heads of 1064 and 128 columns, but at most 1024 are taken; "
       "use "
       "less"},
      {"model: {attention: {pattern: [mla], mla: {q_lora_rank: 0}}}\n",
       "t.yaml:2:56: model.attention.mla.q_lora_rank: must be at least 1, got 0"},
      {"model: {attention: {pattern: [mla], mla: {kv_lora_rank: none}}}\n",
       "t.yaml:2:57: model.attention.mla.kv_lora_rank: expected a whole number in plain digits, as in 8, got 'none'"},
      {"model: {attention: {pattern: [mla]}}\nparallel: {tensor: 3}\n",
       "t.yaml:3:20: parallel.tensor: 3 does not divide num_attention_heads 4; this model takes 1, 2, 4"},
  });
}

TEST(BadConfig, Gdn) {
  testing::ExpectReports({
      {"model: {attention: {pattern: [ksa, gdn]}}\n",
       "t.yaml:2:30: model.attention.ksa.full_layers: attend, but summary rows have no place in the recurrence of gdn "
       "layers over text; use bypass in a pattern of ksa and gdn"},
      {"model: {attention: {pattern: [ksa, gdn], ksa: {full_layers: attend}}}\n",
       "t.yaml:2:61: model.attention.ksa.full_layers: attend, but summary rows have no place in the recurrence of gdn "
       "layers over text; use bypass in a pattern of ksa and gdn"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_num_key_heads: 3, linear_num_value_heads: 4}}}\n",
       "t.yaml:2:92: model.attention.gdn.linear_num_value_heads: 4 is no multiple of linear_num_key_heads 3; use a "
       "multiple of it"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_num_key_heads: 0}}}\n",
       "t.yaml:2:65: model.attention.gdn.linear_num_key_heads: must be at least 1, got 0"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_key_head_dim: 1025}}}\n",
       "t.yaml:2:64: model.attention.gdn.linear_key_head_dim: must be at most 1024, got 1025"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_value_head_dim: 0}}}\n",
       "t.yaml:2:66: model.attention.gdn.linear_value_head_dim: must be at least 1, got 0"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_conv_kernel_dim: 17}}}\n",
       "t.yaml:2:67: model.attention.gdn.linear_conv_kernel_dim: must be at most 16, got 17"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_conv_kernel_dim: 1}}}\n",
       "t.yaml:2:67: model.attention.gdn.linear_conv_kernel_dim: must be at least 2, got 1"},
      {"model: {attention: {pattern: [gdn], gdn: {linear_allow_neg_eigval: 2}}}\n",
       "t.yaml:2:68: model.attention.gdn.linear_allow_neg_eigval: expected true or false, got '2'"},
      {"model: {attention: {pattern: [gdn, full], short_conv: 4}}\n",
       "t.yaml:2:55: model.attention.short_conv: 4, but gdn layers have convolutions of their own "
       "(gdn.linear_conv_kernel_dim); say it in the entries of other kinds"},
      {"model: {attention: {pattern: [gdn, full], rope: none}}\n",
       "t.yaml:2:49: model.attention.rope: none, but gdn layers have no positions to leave out; say it in the entries "
       "of other kinds"},
      {"model: {attention: {pattern: [{kind: gdn, short_conv: 4}]}}\n",
       "t.yaml:2:55: model.attention.pattern[0].short_conv: a gdn layer has no short_conv; remove it"},
      {"model: {attention: {pattern: [{kind: gdn, rope: none}]}}\n",
       "t.yaml:2:49: model.attention.pattern[0].rope: a gdn layer has no rope; remove it"},
      {"model: {attention: {pattern: [{kind: gdn, projection: mla}]}}\n",
       "t.yaml:2:55: model.attention.pattern[0].projection: a gdn layer has no projection; remove it"},
      {"model: {attention: {pattern: [gdn]}}\nparallel: {tensor: 3}\n",
       "t.yaml:3:20: parallel.tensor: 3 does not divide model.attention.gdn.linear_num_key_heads 16; this model takes "
       "1, 2, 4, 8, 16"},
  });
}

TEST(BadConfig, Hca) {
  testing::ExpectReports({
      {"model: {attention: {pattern: [ksa, hca]}}\n",
       "t.yaml:2:30: model.attention.pattern: ksa and hca in one pattern: text rows alone have no place beside summary "
       "rows; use one of them, and compare two runs"},
      {"model: {attention: {pattern: [hca, sca], hca: {chunk_size: 4}, sca: {chunk_size: 8, window_chunks: 1}}}\n",
       "t.yaml:2:60: model.attention.hca.chunk_size: must equal sca.chunk_size 8 in a pattern with both kinds, got 4"},
      {"model: {attention: {pattern: [hca], hca: {chunk_size: 0}}}\n",
       "t.yaml:2:55: model.attention.hca.chunk_size: must be at least 1, got 0"},
      {"model: {attention: {pattern: [hca], hca: {window_chunks: -1}}}\n",
       "t.yaml:2:58: model.attention.hca.window_chunks: must be at least 0, got -1"},
      {"model: {attention: {pattern: [{kind: hca, window_chunks: -1}]}}\n",
       "t.yaml:2:58: model.attention.pattern[0].window_chunks: must be at least 0, got -1"},
      {"model: {attention: {pattern: [{kind: hca, window: 3}]}}\n",
       "t.yaml:2:51: model.attention.pattern[0].window: a hca layer has no window; it takes window_chunks, rope, "
       "short_conv"},
      {"model: {attention: {hca: {compressed_positions: end}}}\n",
       "t.yaml:2:49: model.attention.hca.compressed_positions: expected one of chunk_end, chunk_start, zero, got "
       "'end'"},
      {"model: {attention: {hca: {visibility: both}}}\n",
       "t.yaml:2:39: model.attention.hca.visibility: expected one of disjoint, overlap, got 'both'"},
      {"model: {attention: {hca: {gate: two}}}\n",
       "t.yaml:2:33: model.attention.hca.gate: expected one of shared, separate, got 'two'"},
      {"model: {attention: {hca: {independent_kv: 1}}}\n",
       "t.yaml:2:43: model.attention.hca.independent_kv: expected true or false, got '1'"},
      {"model: {attention: {hca: {value_norm: off}}}\n",
       "t.yaml:2:39: model.attention.hca.value_norm: expected true or false, got 'off'"},
      {"model: {attention: {pattern: [hca]}}\nparallel: {context: 5}\n",
       "t.yaml:3:21: parallel.context: 5 ranks hold two slices of whole chunks each, but 64 tokens are 8 chunk(s) of "
       "8; "
       "use at most 4, smaller chunks or longer sequences"},
      {"model: {num_key_value_heads: 4, attention: {pattern: [hca]}}\nparallel: {tensor: 3}\n",
       "t.yaml:3:20: parallel.tensor: 3 does not divide num_attention_heads 4; this model takes 1, 2, 4"},
  });
}

TEST(BadConfig, Attention) {
  testing::ExpectReports({
      {"model: {attention: {pattern: ksa}}\n",
       "t.yaml:2:30: model.attention.pattern: expected a list of layer kinds (ksa, full, swa, sca, hca, gdn, mla), got "
       "'ksa'"},
      {"model: {attention: {pattern: []}}\n",
       "t.yaml:2:30: model.attention.pattern: names no layer kind; list at least one of ksa, full, swa, sca, hca, gdn, "
       "mla"},
      {"model: {attention: {pattern: [ksa, fall]}}\n",
       "t.yaml:2:36: model.attention.pattern[1]: expected one of ksa, full, swa, sca, hca, gdn, mla, got 'fall'; did "
       "you "
       "mean "
       "'full'?"},
      {"model: {attention: {pattern: [ksa, {kind: gdm}]}}\n",
       "t.yaml:2:43: model.attention.pattern[1].kind: expected one of ksa, full, swa, sca, hca, gdn, mla, got 'gdm'"},
      {"model: {attention: {pattern: [{window_chunks: 3}]}}\n",
       "t.yaml:2:31: model.attention.pattern[0]: needs a kind: ksa, full, swa, sca, hca, gdn or mla"},
      {"model: {attention: {pattern: [{kind: ksa, window: 3}]}}\n",
       "t.yaml:2:51: model.attention.pattern[0].window: a ksa layer has no window; it takes window_chunks, rope, "
       "short_conv, projection"},
      {"model: {attention: {pattern: [{kind: full, window_chunks: 3}]}}\n",
       "t.yaml:2:59: model.attention.pattern[0].window_chunks: a full layer has no window_chunks; it takes rope, "
       "short_conv, projection"},
      {"model: {attention: {pattern: [{kind: full, window: 3}]}}\n",
       "t.yaml:2:52: model.attention.pattern[0].window: a full layer has no window; it takes rope, short_conv, "
       "projection"},
      {"model: {attention: {pattern: [{kind: ksa, windows: 3}]}}\n",
       "t.yaml:2:43: model.attention.pattern[0].windows: unknown key; did you mean 'window'?"},
      {"model: {attention: {pattern: [{kind: ksa, window_chunks: -1}]}}\n",
       "t.yaml:2:58: model.attention.pattern[0].window_chunks: must be at least 0, got -1"},
      {"model: {attention: {pattern: [{kind: swa, window: 0}]}}\n",
       "t.yaml:2:51: model.attention.pattern[0].window: must be at least 1, got 0"},
      {"model: {attention: {pattern: [[ksa]]}}\n",
       "t.yaml:2:31: model.attention.pattern[0]: expected a mapping of kind, window_chunks, rope, "
       "short_conv, projection, window, got a list"},
      {"model: {attention: {pattern: [swa]}}\n",
       "t.yaml:2:30: model.attention.swa.window: required, because the pattern has swa layers; give it"},
      {"model: {attention: {pattern: [swa], swa: {window: 0}}}\n",
       "t.yaml:2:51: model.attention.swa.window: must be at least 1, got 0"},
      {"model: {attention: {pattern: [sca]}}\n",
       "t.yaml:2:30: model.attention.sca.chunk_size: required, because the pattern has sca layers; give "
       "it\nt.yaml:2:30: model.attention.sca.window_chunks: required, because the pattern has sca layers; give it"},
      {"model: {attention: {pattern: [sca], sca: {chunk_size: 8}}}\n",
       "t.yaml:2:30: model.attention.sca.window_chunks: required, because the pattern has sca layers; give it"},
      {"model: {attention: {pattern: [{kind: sca, window_chunks: 2}]}}\n",
       "t.yaml:2:30: model.attention.sca.chunk_size: required, because the pattern has sca layers; give it"},
      {"model: {attention: {pattern: [ksa, sca], sca: {chunk_size: 4, window_chunks: 2}}}\n",
       "t.yaml:2:60: model.attention.sca.chunk_size: must equal ksa.chunk_size 8 in a pattern with both kinds, got 4"},
      {"model: {attention: {rope: off}}\n",
       "t.yaml:2:27: model.attention.rope: expected one of default, none, got 'off'"},
      {"model: {attention: {pattern: [{kind: swa, window: 3, rope: no}]}}\n",
       "t.yaml:2:60: model.attention.pattern[0].rope: expected one of default, none, got 'no'"},
      {"model: {attention: {short_conv: 1}}\n",
       "t.yaml:2:33: model.attention.short_conv: must be 0 or integer from 2 to 16, got 1"},
      {"model: {attention: {short_conv: 17}}\n", "t.yaml:2:33: model.attention.short_conv: must be at most 16, got 17"},
      {"model: {attention: {pattern: [{kind: full, short_conv: 1}]}}\n",
       "t.yaml:2:56: model.attention.pattern[0].short_conv: must be 0 or integer from 2 to 16, got 1"},
      {"model: {attention: {pattern: [{kind: hca, short_conv: -4}]}}\n",
       "t.yaml:2:55: model.attention.pattern[0].short_conv: must be at least 0, got -4"},
      {"model: {attention: {ksa: {chunk_size: 0}}}\n",
       "t.yaml:2:39: model.attention.ksa.chunk_size: must be at least 1, got 0"},
      {"model: {attention: {ksa: {summary_tokens: 0}}}\n",
       "t.yaml:2:43: model.attention.ksa.summary_tokens: must be at least 1, got 0"},
      {"model: {attention: {ksa: {summary_tokens: 65}}}\n",
       "t.yaml:2:43: model.attention.ksa.summary_tokens: must be at most 64, got 65"},
      {"model: {attention: {ksa: {window_chunks: -1}}}\n",
       "t.yaml:2:42: model.attention.ksa.window_chunks: must be at least 0, got -1"},
      {"model: {attention: {ksa: {text_positions: inner}}}\n",
       "t.yaml:2:43: model.attention.ksa.text_positions: expected one of origin, inner_chunk, got 'inner'; did you "
       "mean 'inner_chunk'?"},
      {"model: {attention: {ksa: {summary_positions: end}}}\n",
       "t.yaml:2:46: model.attention.ksa.summary_positions: expected one of chunk_end, chunk_start, zero, got 'end'"},
      {"model: {attention: {ksa: {full_layers: skip}}}\n",
       "t.yaml:2:40: model.attention.ksa.full_layers: expected one of attend, bypass, got 'skip'"},
      {"model: {attention: {ksa: {independent: {qkv: false, qk_norm: true}}}}\n",
       "t.yaml:2:62: model.attention.ksa.independent.qk_norm: needs independent.qkv: true, because it norms the own "
       "projections; set that or drop this"},
      {"model: {attention: {ksa: {independent: true}}}\n",
       "t.yaml:2:40: model.attention.ksa.independent: expected a mapping of embedding, qkv, norm, qk_norm, got 'true'"},
      {"model: {attention: {ksa: {anneal: {start_step: 5}}}}\n",
       "t.yaml:2:48: model.attention.ksa.anneal.end_step: missing; anneal needs both start_step and end_step"},
      {"model: {attention: {ksa: {anneal: {end_step: 5}}}}\n",
       "t.yaml:2:46: model.attention.ksa.anneal.start_step: missing; anneal needs both start_step and end_step"},
      {"model: {attention: {ksa: {anneal: {start_step: 5, end_step: 5}}}}\n",
       "t.yaml:2:61: model.attention.ksa.anneal.end_step: must be greater than start_step 5, got 5"},
      {"model: {attention: {ksa: {independent: {qkv: false}, anneal: {start_step: 1, end_step: 5}}}}\n",
       "t.yaml:2:75: model.attention.ksa.anneal.start_step: annealing needs independent.qkv: true; set that or remove "
       "anneal"},
      {"model: {attention: {ksa: {chunk_size: 1, summary_tokens: 64}}}\ntraining: {sequence_length: 33554432}\n",
       "t.yaml:2:58: model.attention.ksa.summary_tokens: 33554432 chunks of 64 summaries are more than 2147483647 a "
       "sequence; use larger chunks"},
  });
}

}  // namespace
}  // namespace ksa
