"""What the commands of the documents become on a test machine: the one table of it.

A document's command is run as it is typed, but for what stands here. Whoever documents a command that no test machine
can run adds a line to NOT_RUN, or writes the reason behind the language of the block: ```bash not run: needs two hosts
"""

# Lines that are left out, and why. A regular expression for the beginning of the line.
NOT_RUN = [
    (r"launch/bootstrap\.sh", "installs packages and builds; launch.bootstrap tests it"),
    (r"launch/quickstart\.sh", "a build, a corpus and minutes of training"),
    (r"launch/test\.sh", "runs all tests, this one among them"),
    (r"launch/mpirun\.sh --host-file", "needs several hosts; launch.mpirun and launch.two_hosts test it"),
    (r"sbatch ", "needs SLURM; launch.mpirun runs launch/slurm.sbatch with a small stand-in"),
    (r"(mpirun -np \d+ )?ksa bench .*--device cuda", "needs a GPU; e2e.gpu_commands"),
    (r"(cmake|ninja|ctest|bash \.ci/run)\b", "a build of its own"),
    (r"tail -f", "does not end"),
    (r"ksa ckpt (diff|average|export-hf|import-hf)", "needs trained runs and folders of others; e2e.interop"),
    (r"ksa ckpt verify \S+/step_", "a step that small runs do not come to; verify of a run is run"),
    (r"ksa completion \w+ > ~/", "writes into the home folder; e2e.completion"),
    (r"tensorboard ", "does not end; e2e.tensorboard reads the events"),
]

# Values under those that a command gives itself: a model that takes milliseconds an update.
SMALL_RUN = [
    "run.threads=1",
    "model.hidden_size=64",
    "model.intermediate_size=64",
    "model.num_hidden_layers=4",
    "model.num_attention_heads=8",
    "model.num_key_value_heads=8",
    "model.head_dim=8",
    "model.max_position_embeddings=128",
    "training.sequence_length=128",
    "training.max_tokens=none",
    "training.max_steps=12",
    "schedule.warmup_steps=1",
    "schedule.decay_steps=2",
    "checkpoint.interval=6",
    "evaluation.batches=1",
]

# The same for commands that take a model alone.
SMALL_MODEL = [assignment for assignment in SMALL_RUN if assignment.startswith("model.")]
TAKES_MODEL = [("bench", "step"), ("bench", "decode"), ("bench", "checkpoint")]

# What replaces a value that a command gives itself, where it is long.
SMALL_VALUES = {
    "training.max_steps": lambda value: str(max(4, int(value) // 100)),
    "training.max_tokens": lambda _: "none",
    "training.hard_stop": lambda value: str(max(1, int(value) // 100)),
    "evaluation.interval": lambda _: "10",
}

# Options that a command gets where it does not have them.
SMALL_OPTIONS = {
    ("bench", "attention"): {"--repeat": "1", "--text-tokens": "512", "--full-causal": "512"},
    ("bench", "context"): {"--repeat": "1", "--text-tokens": "512"},
    ("bench", "checkpoint"): {"--steps": "1"},
    ("bench", "comm"): {"--repeat": "1", "--mib": "1"},
    ("bench", "data"): {"--seconds": "0.1"},
}

# What becomes of a sweep's text: one seed says as much about a command as three.
SMALL_SWEEP = [(r"run\.seed: \[(\d+)(, *\d+)+\]", r"run.seed: [\1]")]

# What replaces the value of an option, where it is long.
SMALL_OPTION_VALUES = {
    ("data", "train-tokenizer"): {"--vocab-size": "400"},
    ("eval",): {"--replace-far": "32"},
    ("bench", "step"): {"--sequence-length": "128"},
    ("bench", "checkpoint"): {"--sequence-length": "128"},
    ("bench", "attention"): {"--text-tokens": "512", "--full-causal": "512"},
    ("bench", "context"): {"--text-tokens": "512"},
    ("bench", "comm"): {"--mib": "1"},
}

# Exit codes besides 0 that are an answer and not a failure.
ANSWERS = {("compare",): {2}}

# Files and folders of the tree that commands name: always the real ones, never made up.
REAL = ("configs/", "docs/", "launch/", "tests/", "/")

# Placeholders: what is made where a command names something that is not there. The first pattern that matches.
PLACEHOLDERS = [
    ("*.txt", "texts"),
    ("*.md", "texts"),
    ("*tokenizer.json", "tokenizer_json"),
    ("*.jsonl", "jsonl"),
    ("*.bin", "nanogpt"),
    ("*.model", "sentencepiece"),
    ("*sweep*.yaml", "sweep"),
    ("*.yaml", "config"),
    ("*/train", "shards"),
    ("*/validation", "held_out_shards"),
    ("*corpus/*", "corpus"),
    ("shards/*", "corpus"),
    ("runs/*", "run"),
    ("*", "text_folder"),
]
