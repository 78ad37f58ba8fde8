"""Kwai Summary Attention in plain PyTorch: one boolean mask a kind of layer, and scaled_dot_product_attention.

Made to be read and to agree with the trainer, on a CPU or a GPU: batches, texts that are padded on either side (on the
right no attention_mask is needed), logits of every position, a loss with labels, generate(). generate() computes the
whole text for every new token; nothing is cached, so memory grows with the square of the length.

Rows of a sequence of T tokens: T text rows, then m summary rows for each of its C = ceil(T / k) chunks of k tokens.
"""

import torch
import torch.nn.functional as F
import transformers
from torch import nn
from transformers import PreTrainedModel
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast

from .configuration_ksa import KsaConfig


def wide(dtype):
    """The type in which norms and rotations are computed."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class KsaRMSNorm(nn.Module):
    def __init__(self, size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x):
        h = x.to(wide(x.dtype))
        h = h * torch.rsqrt(h.pow(2).mean(-1, keepdim=True) + self.eps)
        return (h * self.weight.to(h.dtype)).to(x.dtype)


class Layout:
    """Positions of all rows, and who sees whom: the rules of the mechanism, and nothing else."""

    def __init__(self, config, tokens, device):
        self.config = config
        self.tokens = tokens
        summaries = config.summaries
        k = config.chunk_size
        chunks = -(-tokens // k)
        text = torch.arange(tokens, device=device)
        self.text_chunk = text // k
        self.text_at = text
        if summaries is None:
            self.summary_chunk = text.new_zeros(0)
            self.summary_index = text.new_zeros(0)
            self.positions = text
            return
        m = summaries["summary_tokens"]
        row = torch.arange(chunks * m, device=device)
        self.summary_chunk = row // m
        self.summary_index = row
        begin = self.summary_chunk * k
        count = torch.clamp(tokens - begin, max=k)
        share = row % m + (1 if summaries["summary_positions"] == "chunk_end" else 0)
        place = begin + torch.clamp(share * count // m - 1, min=0)
        if summaries["summary_positions"] == "zero":
            place = torch.zeros_like(place)
        inner = summaries["text_positions"] == "inner_chunk"
        self.positions = torch.cat([text % k if inner else text, place])

    def text_sees_text(self, kind, values):
        query, key = self.text_at[:, None], self.text_at[None, :]
        visible = key <= query
        if kind in ("ksa", "sca"):
            visible = visible & (self.text_chunk[None, :] >= self.text_chunk[:, None] - values["window_chunks"])
        if kind == "swa":
            visible = visible & (query - key < values["window"])
        return visible

    def visible(self, kind, values, with_summaries):
        """[rows, rows], queries down; without summaries [tokens, tokens]."""
        text = self.text_sees_text(kind, values)
        if not with_summaries:
            return text
        chunk = self.summary_chunk
        sees_summary = torch.zeros(self.tokens, len(chunk), dtype=torch.bool, device=text.device)
        if kind == "ksa":
            sees_summary = chunk[None, :] < self.text_chunk[:, None] - values["window_chunks"]
        own_text = chunk[:, None] == self.text_chunk[None, :]
        earlier = self.summary_index[None, :] <= self.summary_index[:, None]
        own_summaries = (chunk[:, None] == chunk[None, :]) & earlier
        return torch.cat([torch.cat([text, sees_summary], 1), torch.cat([own_text, own_summaries], 1)], 0)

    def rotation(self, rows, head_dim, base, dtype):
        """cos and sin [rows, head_dim / 2] of the first `rows` rows."""
        inverse = base ** (-torch.arange(0, head_dim, 2, device=self.positions.device, dtype=torch.float64) / head_dim)
        angle = self.positions[:rows, None].to(torch.float64) * inverse[None, :]
        return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, rotation):
    """x [b, heads, rows, e], in halves."""
    cos, sin = rotation
    h = x.to(cos.dtype)
    first, second = h.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class KsaAttention(nn.Module):
    def __init__(self, config, own):
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = (
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
        )
        self.mix = config.summary_mix
        size, eps = config.hidden_size, config.rms_norm_eps
        outs = {"q": self.heads * self.head_dim, "k": self.kv_heads * self.head_dim, "v": self.kv_heads * self.head_dim}
        for part, out in outs.items():
            setattr(self, f"{part}_proj", nn.Linear(size, out, bias=False))
            if own["qkv"]:
                setattr(self, f"{part}_proj_summary", nn.Linear(size, out, bias=False))
        self.o_proj = nn.Linear(self.heads * self.head_dim, size, bias=False)
        if config.qk_norm:
            for part in ("q", "k"):
                setattr(self, f"{part}_norm", KsaRMSNorm(self.head_dim, eps))
                if own["qk_norm"]:
                    setattr(self, f"{part}_norm_summary", KsaRMSNorm(self.head_dim, eps))

    def apply_part(self, part, x, own):
        y = getattr(self, f"{part}_proj_summary" if own else f"{part}_proj")(x)
        y = y.view(*x.shape[:-1], -1, self.head_dim)
        norm = getattr(self, f"{part}_norm", None)
        if own:
            norm = getattr(self, f"{part}_norm_summary", norm)
        return y if norm is None else norm(y)

    def project(self, part, x, tokens):
        """x [b, rows, d] -> [b, heads, rows, e]: the first `tokens` rows are text."""
        if not hasattr(self, f"{part}_proj_summary") or self.mix == 0:
            return self.apply_part(part, x, False).transpose(1, 2)
        summary = self.apply_part(part, x[:, tokens:], True)
        if self.mix == 1:
            text = self.apply_part(part, x[:, :tokens], False)
        else:
            both = self.apply_part(part, x, False)
            text = both[:, :tokens]
            summary = self.mix * summary + (1 - self.mix) * both[:, tokens:]
        return torch.cat([text, summary], 1).transpose(1, 2)

    def forward(self, x, tokens, visible, rotation):
        q = rotate(self.project("q", x, tokens), rotation)
        k = rotate(self.project("k", x, tokens), rotation)
        v = self.project("v", x, tokens)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=self.head_dim**-0.5)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class KsaMLP(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class KsaDecoderLayer(nn.Module):
    def __init__(self, config, index):
        super().__init__()
        self.kind, self.values = config.layer(index)
        summaries = config.summaries
        self.attends = summaries is not None and (self.kind == "ksa" or summaries["full_layers"] == "attend")
        nothing = {"embedding": False, "qkv": False, "norm": False, "qk_norm": False}
        own = summaries["independent"] if self.attends else nothing
        size, eps = config.hidden_size, config.rms_norm_eps
        self.input_layernorm = KsaRMSNorm(size, eps)
        self.input_layernorm_summary = KsaRMSNorm(size, eps) if own["norm"] else None
        self.self_attn = KsaAttention(config, {**own, "qk_norm": own["qk_norm"] and config.qk_norm})
        self.mlp = KsaMLP(config) if config.intermediate_size > 0 else None
        self.post_attention_layernorm = KsaRMSNorm(size, eps) if self.mlp is not None else None

    def normed(self, x, tokens):
        if self.input_layernorm_summary is None:
            return self.input_layernorm(x)
        return torch.cat([self.input_layernorm(x[:, :tokens]), self.input_layernorm_summary(x[:, tokens:])], 1)

    def forward(self, x, layout, rotations):
        """x [b, rows, d]. Summary rows that do not attend skip the block."""
        tokens = layout.tokens
        rows = x.shape[1] if self.attends else tokens
        here, skipping = x[:, :rows], x[:, rows:]
        visible = layout.visible(self.kind, self.values, self.attends)
        here = here + self.self_attn(self.normed(here, tokens), tokens, visible, [part[:rows] for part in rotations])
        if self.mlp is not None:
            here = here + self.mlp(self.post_attention_layernorm(here))
        return torch.cat([here, skipping], 1)


class KsaPreTrainedModel(PreTrainedModel):
    config_class = KsaConfig
    base_model_prefix = "model"
    _no_split_modules = ["KsaDecoderLayer"]
    _supports_sdpa = True

    def _init_weights(self, module):
        std = self.config.initializer_range
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=std)
        elif isinstance(module, KsaRMSNorm):
            nn.init.ones_(module.weight)


class KsaModel(KsaPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.embedding_rows, config.hidden_size)
        self.layers = nn.ModuleList([KsaDecoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = KsaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_init()

    def forward(self, inputs_embeds, summary_rows=None):
        """inputs_embeds [b, T, d], summary_rows [m, d] or None -> [b, T, d]."""
        batch, tokens, _ = inputs_embeds.shape
        layout = Layout(self.config, tokens, inputs_embeds.device)
        x = inputs_embeds
        if summary_rows is not None:
            chunks = -(-tokens // self.config.chunk_size)
            start = summary_rows.to(x.dtype).repeat(chunks, 1)[None].expand(batch, -1, -1)
            x = torch.cat([x, start], 1)
        rotations = layout.rotation(x.shape[1], self.config.head_dim, self.config.rope_theta, wide(x.dtype))
        for layer in self.layers:
            x = layer(x, layout, rotations)
        return self.norm(x[:, :tokens])


def roll_to_left(mask):
    """For texts padded on the left: [b, T], the column that comes first in each row and so on; None when none is."""
    if mask is None or mask.dim() != 2 or bool(mask[:, 0].all()):
        return None
    first = mask.long().argmax(1)
    columns = torch.arange(mask.shape[1], device=mask.device)
    return (columns[None, :] + first[:, None]) % mask.shape[1]


class KsaForCausalLM(KsaPreTrainedModel, GenerationMixin):
    _tied_weights_keys = (
        {"lm_head.weight": "model.embed_tokens.weight"}
        if int(transformers.__version__.split(".")[0]) >= 5
        else ["lm_head.weight"]
    )

    def __init__(self, config):
        super().__init__(config)
        self.model = KsaModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.embedding_rows, bias=False)
        summaries = config.summaries
        if summaries is not None and summaries["independent"]["embedding"]:
            self.summary_embedding = nn.Embedding(summaries["summary_tokens"], config.hidden_size)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def set_input_embeddings(self, value):
        self.model.embed_tokens = value

    def get_output_embeddings(self):
        return self.lm_head

    def set_output_embeddings(self, value):
        self.lm_head = value

    def summary_rows(self):
        if self.config.summaries is None:
            return None
        if hasattr(self, "summary_embedding"):
            return self.summary_embedding.weight
        return self.model.embed_tokens.weight[self.config.vocab_size :]

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **kwargs):
        return {"input_ids": input_ids, "attention_mask": attention_mask}

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        inputs_embeds=None,
        labels=None,
        logits_to_keep=0,
        num_items_in_batch=None,
        return_dict=None,
        **kwargs,
    ):
        """-> logits [b, T, vocabulary]. `attention_mask` tells where texts padded on the left begin; where they are
        padded on the right, what comes after a text changes nothing before it. `labels` are shifted here, -100 has no
        target."""
        embeds = self.model.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        order = roll_to_left(attention_mask)
        if order is not None:
            embeds = embeds.gather(1, order[..., None].expand_as(embeds))
        hidden = self.model(embeds, self.summary_rows())
        if order is not None:
            hidden = hidden.gather(1, order.argsort(1)[..., None].expand_as(hidden))
        kept = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) and logits_to_keep > 0 else slice(None)
        logits = self.lm_head(hidden[:, kept])
        loss = None
        if labels is not None:
            scores = logits[:, :-1].to(wide(logits.dtype)).flatten(0, 1)
            targets = labels[:, 1:].to(scores.device).flatten()
            if num_items_in_batch is None:
                loss = F.cross_entropy(scores, targets, ignore_index=-100)
            else:
                loss = F.cross_entropy(scores, targets, ignore_index=-100, reduction="sum") / num_items_in_batch
        if return_dict is False:
            return (logits,) if loss is None else (loss, logits)
        return CausalLMOutputWithPast(loss=loss, logits=logits)
