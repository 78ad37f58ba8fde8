"""Configuration of a model with Kwai Summary Attention, as the `ksa` trainer exports it."""

try:
    from transformers import PreTrainedConfig
except ImportError:  # before version 5
    from transformers import PretrainedConfig as PreTrainedConfig


class KsaConfig(PreTrainedConfig):
    """Names are those of Hugging Face where there is one; `attention` is the trainer's section `model.attention`.

    `attention.pattern` has an entry a layer, {"kind": "ksa" | "full" | "swa" | "sca" | "hca" | "mla", ...}, whose other
    fields override those of the kind's own section (`attention.ksa`, `attention.swa` ...) and what `attention` says of
    all layers: `rope`, `short_conv`, `projection`. `summary_mix` is the weight of the summaries' own projections; the
    base projections have the rest.
    """

    model_type = "ksa"

    def __init__(
        self,
        vocab_size=257,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=None,
        head_dim=None,
        rms_norm_eps=1e-6,
        qk_norm=True,
        rope_theta=10000.0,
        initializer_range=0.02,
        max_position_embeddings=2048,
        attention=None,
        summary_mix=1.0,
        use_cache=False,
        tie_word_embeddings=False,
        **kwargs,
    ):
        self.vocab_size = vocab_size
        self.hidden_size = hidden_size
        self.intermediate_size = intermediate_size
        self.num_hidden_layers = num_hidden_layers
        self.num_attention_heads = num_attention_heads
        self.num_key_value_heads = num_key_value_heads or num_attention_heads
        self.head_dim = head_dim or hidden_size // num_attention_heads
        self.rms_norm_eps = rms_norm_eps
        self.qk_norm = qk_norm
        self.rope_theta = rope_theta
        self.initializer_range = initializer_range
        self.max_position_embeddings = max_position_embeddings
        self.attention = attention or {"pattern": [{"kind": "full"}] * num_hidden_layers}
        self.summary_mix = summary_mix
        self.use_cache = use_cache
        super().__init__(tie_word_embeddings=tie_word_embeddings, **kwargs)

    def layer(self, index):
        """The kind of a layer, and its values: those of its entry, else those of its kind, else those of all layers."""
        entry = dict(self.attention["pattern"][index])
        kind = entry.pop("kind")
        options = {"rope": "default", "short_conv": 0, "projection": "gqa"}
        options.update({name: self.attention[name] for name in options if name in self.attention})
        if kind == "mla":
            return "full", {**options, **entry, "projection": "mla"}
        if kind == "hca":
            options["projection"] = "gqa"
        return kind, {**options, **self.attention.get(kind, {}), **entry}

    @property
    def summaries(self):
        """`attention.ksa` when some layer is ksa, else None: a model without summary rows."""
        kinds = [entry["kind"] for entry in self.attention["pattern"]]
        return self.attention["ksa"] if "ksa" in kinds else None

    @property
    def chunk_size(self):
        """Tokens a chunk: what the kinds of the pattern agree on, 1 where none of them has chunks."""
        for entry in self.attention["pattern"]:
            if entry["kind"] in ("ksa", "sca", "hca"):
                return self.attention[entry["kind"]]["chunk_size"]
        return 1

    @property
    def embedding_rows(self):
        """Rows of the vocabulary: summaries without an embedding of their own take some behind the text's."""
        summaries = self.summaries
        shared = summaries is not None and not summaries["independent"]["embedding"]
        return self.vocab_size + (summaries["summary_tokens"] if shared else 0)
