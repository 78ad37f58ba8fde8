"""Kwai Summary Attention in plain PyTorch: one boolean mask a kind of layer, and scaled_dot_product_attention.

Made to be read and to agree with the trainer, on a CPU or a GPU: batches, texts that are padded on either side (on the
right no attention_mask is needed), logits of every position, a loss with labels, generate(). generate() computes the
whole text for every new token; nothing is cached, so memory grows with the square of the length.

Rows of a sequence of T tokens: T text rows, then m summary rows for each of its C = ceil(T / k) chunks of k tokens. In
hca layers a whole chunk leaves an entry instead, a key and a value that are pooled from its rows.
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
        place = self.places(summaries["summary_positions"], row, m)
        inner = summaries["text_positions"] == "inner_chunk"
        self.positions = torch.cat([text % k if inner else text, place])

    def places(self, where, row, m):
        """Positions of what stands for chunks: number `row` of m a chunk."""
        k = self.config.chunk_size
        begin = row // m * k
        count = torch.clamp(self.tokens - begin, max=k)
        share = row % m + (1 if where == "chunk_end" else 0)
        return torch.zeros_like(begin) if where == "zero" else begin + torch.clamp(share * count // m - 1, min=0)

    def sees_entries(self, values):
        """[tokens, whole chunks]: which entries the text of an hca layer sees."""
        k = self.config.chunk_size
        chunk = torch.arange(self.tokens // k, device=self.text_at.device)[None, :]
        if values["visibility"] == "overlap":
            return (chunk + 1) * k <= self.text_at[:, None] + 1
        return chunk < self.text_chunk[:, None] - values["window_chunks"]

    def text_sees_text(self, kind, values):
        query, key = self.text_at[:, None], self.text_at[None, :]
        visible = key <= query
        if kind in ("ksa", "sca", "hca"):
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

    def rotation(self, positions, head_dim, dtype):
        """cos and sin [rows, head_dim / 2] of rows at these positions."""
        halves = torch.arange(0, head_dim, 2, device=positions.device, dtype=torch.float64)
        angle = positions[:, None].to(torch.float64) * (self.config.rope_theta ** (-halves / head_dim))[None, :]
        return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, rotation):
    """x [b, heads, rows, e], in halves; None: as it is."""
    if rotation is None:
        return x
    cos, sin = rotation
    h = x.to(cos.dtype)
    first, second = h.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1).to(x.dtype)


class KsaShortConv(nn.Conv1d):
    """Each channel beside itself: a causal convolution along the text; rows behind it stay as they are."""

    def __init__(self, channels, taps):
        super().__init__(channels, channels, taps, groups=channels, bias=False)

    def forward(self, x, tokens):
        """x [b, rows, channels]"""
        text = x[:, :tokens].transpose(1, 2)
        taps = super().forward(F.pad(text, (self.kernel_size[0] - 1, 0)))
        return torch.cat([x[:, :tokens] + taps.transpose(1, 2), x[:, tokens:]], 1)


class KsaAttention(nn.Module):
    def __init__(self, config, own, values):
        super().__init__()
        self.rotates = values["rope"] == "default"
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
        if values["short_conv"] > 0:
            for part, out in outs.items():
                setattr(self, f"{part}_conv1d", KsaShortConv(out, values["short_conv"]))

    def product(self, part, x, tokens):
        """Of the text's projection, convolved: the first `tokens` rows are text."""
        y = getattr(self, f"{part}_proj")(x)
        convolution = getattr(self, f"{part}_conv1d", None)
        return y if convolution is None else convolution(y, tokens)

    def apply_part(self, part, x, own, tokens):
        y = getattr(self, f"{part}_proj_summary")(x) if own else self.product(part, x, tokens)
        y = y.view(*x.shape[:-1], -1, self.head_dim)
        norm = getattr(self, f"{part}_norm", None)
        if own:
            norm = getattr(self, f"{part}_norm_summary", norm)
        return y if norm is None else norm(y)

    def project(self, part, x, tokens):
        """x [b, rows, d] -> [b, heads, rows, e]: the first `tokens` rows are text."""
        if not hasattr(self, f"{part}_proj_summary") or self.mix == 0:
            return self.apply_part(part, x, False, tokens).transpose(1, 2)
        summary = self.apply_part(part, x[:, tokens:], True, 0)
        if self.mix == 1:
            text = self.apply_part(part, x[:, :tokens], False, tokens)
        else:
            both = self.apply_part(part, x, False, tokens)
            text = both[:, :tokens]
            summary = self.mix * summary + (1 - self.mix) * both[:, tokens:]
        return torch.cat([text, summary], 1).transpose(1, 2)

    def more_keys(self, x, layout):
        """Keys and values behind those of the rows, or none."""
        return None

    def forward(self, x, layout, visible):
        tokens = layout.tokens
        at = layout.positions[: x.shape[1]]
        rotation = layout.rotation(at, self.head_dim, wide(x.dtype)) if self.rotates else None
        q = rotate(self.project("q", x, tokens), rotation)
        k = rotate(self.project("k", x, tokens), rotation)
        v = self.project("v", x, tokens)
        more = self.more_keys(x, layout)
        if more is not None:
            k, v = torch.cat([k, more[0]], 2), torch.cat([v, more[1]], 2)
        group = self.heads // self.kv_heads
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=self.head_dim**-0.5)
        return self.o_proj(y.transpose(1, 2).flatten(2))


class KsaCompressor(nn.Module):
    """Pools the rows of each whole chunk, channel by channel, by a softmax over its rows."""

    def __init__(self, config, values, columns, head_dim):
        super().__init__()
        size, eps, k = config.hidden_size, config.rms_norm_eps, config.chunk_size
        if values["independent_kv"]:
            self.k_proj = nn.Linear(size, columns, bias=False)
            self.v_proj = nn.Linear(size, columns, bias=False)
        self.gate_proj = nn.Linear(size, columns, bias=False)
        self.position_bias = nn.Parameter(torch.zeros(k, columns))
        if values["gate"] == "separate":
            self.gate_proj_value = nn.Linear(size, columns, bias=False)
            self.position_bias_value = nn.Parameter(torch.zeros(k, columns))
        self.k_norm = KsaRMSNorm(head_dim, eps) if config.qk_norm else None
        self.v_norm = KsaRMSNorm(head_dim, eps) if values["value_norm"] else None
        self.head_dim = head_dim

    def pool(self, x, gate, bias, norm):
        """x, gate [b, whole chunks, k, columns] -> [b, heads, whole chunks, e]."""
        weights = (gate.to(wide(x.dtype)) + bias.to(wide(x.dtype))).softmax(2)
        pooled = (weights * x.to(weights.dtype)).sum(2).to(x.dtype).unflatten(-1, (-1, self.head_dim))
        return (pooled if norm is None else norm(pooled)).transpose(1, 2)


class KsaPooledAttention(KsaAttention):
    """hca: what is older than the window is seen as entries."""

    def __init__(self, config, own, values):
        super().__init__(config, own, values)
        self.values = values
        self.compressor = KsaCompressor(config, values, self.kv_heads * self.head_dim, self.head_dim)

    def more_keys(self, x, layout):
        c, k = self.compressor, layout.config.chunk_size
        whole = layout.tokens // k
        x = x[:, : whole * k]
        by_chunk = lambda y: y.unflatten(1, (whole, k))
        own = self.values["independent_kv"]
        keys = by_chunk(c.k_proj(x) if own else self.product("k", x, x.shape[1]))
        values = by_chunk(c.v_proj(x) if own else self.product("v", x, x.shape[1]))
        gate, bias = by_chunk(c.gate_proj(x)), c.position_bias
        keys = c.pool(keys, gate, bias, c.k_norm)
        if self.values["gate"] == "separate":
            gate, bias = by_chunk(c.gate_proj_value(x)), c.position_bias_value
        values = c.pool(values, gate, bias, c.v_norm)
        if self.rotates:
            row = torch.arange(whole, device=x.device)
            at = layout.places(self.values["compressed_positions"], row, 1)
            keys = rotate(keys, layout.rotation(at, self.head_dim, wide(x.dtype)))
        return keys, values


class KsaLatentAttention(nn.Module):
    """`projection: mla`: keys and values are expanded from a latent, and a part of the key that heads share."""

    EPS = 1e-6

    def __init__(self, config, own, values):
        super().__init__()
        mla = config.attention["mla"]
        size, rank = config.hidden_size, mla["kv_lora_rank"]
        self.heads, self.mix, self.rank = config.num_attention_heads, config.summary_mix, rank
        self.nope, self.rope, self.value = mla["qk_nope_head_dim"], mla["qk_rope_head_dim"], mla["v_head_dim"]
        self.rotates = values["rope"] == "default"
        columns = self.heads * (self.nope + self.rope)
        self.q_rank = mla.get("q_lora_rank")
        name, out = ("q_a_proj", self.q_rank) if self.q_rank else ("q_proj", columns)
        parts = {name: out, "kv_a_proj_with_mqa": rank + self.rope}
        self.query = name
        for part, width in parts.items():
            setattr(self, part, nn.Linear(size, width, bias=False))
            if own["qkv"]:
                setattr(self, part + "_summary", nn.Linear(size, width, bias=False))
        norms = {"kv_a_layernorm": rank, **({"q_a_layernorm": self.q_rank} if self.q_rank else {})}
        for part, width in norms.items():
            setattr(self, part, KsaRMSNorm(width, self.EPS))
            if own["qk_norm"]:
                setattr(self, part + "_summary", KsaRMSNorm(width, self.EPS))
        if self.q_rank:
            self.q_b_proj = nn.Linear(self.q_rank, columns, bias=False)
        self.kv_b_proj = nn.Linear(rank, self.heads * (self.nope + self.value), bias=False)
        self.o_proj = nn.Linear(self.heads * self.value, size, bias=False)
        if values["short_conv"] > 0:
            self.q_conv1d = KsaShortConv(columns, values["short_conv"])
            self.kv_a_conv1d = KsaShortConv(rank + self.rope, values["short_conv"])

    def rows(self, part, x, tokens, finish):
        """finish(product, whether of the summaries' own), of all rows, mixed where both have a part."""
        base = getattr(self, part)
        own = getattr(self, part + "_summary", None)
        if own is None or self.mix == 0 or x.shape[1] == tokens:
            return finish(base(x), False)
        summary = finish(own(x[:, tokens:]), True)
        if self.mix != 1:
            summary = self.mix * summary + (1 - self.mix) * finish(base(x[:, tokens:]), False)
        return torch.cat([finish(base(x[:, :tokens]), False), summary], 1)

    def norm(self, part, x, own):
        return (getattr(self, part + "_summary", getattr(self, part)) if own else getattr(self, part))(x)

    def queries(self, x, tokens):
        normed = lambda y, own: self.norm("q_a_layernorm", y, own) if self.q_rank else y
        q = self.rows(self.query, x, tokens, normed)
        q = self.q_b_proj(q) if self.q_rank else q
        q = self.q_conv1d(q, tokens) if hasattr(self, "q_conv1d") else q
        return q.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def latents(self, x, tokens):
        def finish(rows, own):
            # Of summaries no row is convolved.
            if hasattr(self, "kv_a_conv1d") and rows.shape[1] >= tokens and not own:
                rows = self.kv_a_conv1d(rows, tokens)
            latent, rope = rows.split([self.rank, self.rope], -1)
            return torch.cat([self.norm("kv_a_layernorm", latent, own), rope], -1)

        text = self.rows("kv_a_proj_with_mqa", x[:, :tokens], tokens, finish)
        if x.shape[1] == tokens:
            return text
        plain = lambda rows, own: torch.cat(
            [self.norm("kv_a_layernorm", rows[..., : self.rank], own), rows[..., self.rank :]], -1)
        return torch.cat([text, self.rows("kv_a_proj_with_mqa", x[:, tokens:], 0, plain)], 1)

    def forward(self, x, layout, visible):
        tokens = layout.tokens
        at = layout.positions[: x.shape[1]]
        rotation = layout.rotation(at, self.rope, wide(x.dtype)) if self.rotates else None
        q = self.queries(x, tokens)
        q = torch.cat([q[..., : self.nope], rotate(q[..., self.nope :], rotation)], -1)
        latent, rope = self.latents(x, tokens).split([self.rank, self.rope], -1)
        rope = rotate(rope[:, None], rotation).expand(-1, self.heads, -1, -1)
        kv = self.kv_b_proj(latent).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = torch.cat([kv[..., : self.nope], rope], -1), kv[..., self.nope :]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible, scale=(self.nope + self.rope) ** -0.5)
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
        latent = self.values["projection"] == "mla"
        kind = KsaLatentAttention if latent else KsaPooledAttention if self.kind == "hca" else KsaAttention
        norms = own["qk_norm"] and (latent or config.qk_norm)
        self.self_attn = kind(config, {**own, "qk_norm": norms}, self.values)
        self.mlp = KsaMLP(config) if config.intermediate_size > 0 else None
        self.post_attention_layernorm = KsaRMSNorm(size, eps) if self.mlp is not None else None

    def normed(self, x, tokens):
        if self.input_layernorm_summary is None:
            return self.input_layernorm(x)
        return torch.cat([self.input_layernorm(x[:, :tokens]), self.input_layernorm_summary(x[:, tokens:])], 1)

    def forward(self, x, layout):
        """x [b, rows, d]. Summary rows that do not attend skip the block."""
        tokens = layout.tokens
        rows = x.shape[1] if self.attends else tokens
        here, skipping = x[:, :rows], x[:, rows:]
        visible = layout.visible(self.kind, self.values, self.attends)
        if self.kind == "hca":
            visible = torch.cat([visible, layout.sees_entries(self.values)], 1)
        here = here + self.self_attn(self.normed(here, tokens), layout, visible)
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
        elif isinstance(module, KsaShortConv):
            nn.init.zeros_(module.weight)
        elif isinstance(module, KsaCompressor):
            for name, parameter in module.named_parameters(recurse=False):
                nn.init.zeros_(parameter)


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
        for layer in self.layers:
            x = layer(x, layout)
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
