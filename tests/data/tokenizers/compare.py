#!/usr/bin/env python3
"""Compares the ids of `ksa data tokenize` with those of Hugging Face's library, and the speed of both, on your own text.

By hand, with a large vocabulary that is not ours to ship, for example Qwen's:
    python3 -m venv build/wheel && build/wheel/bin/pip install tokenizers tiktoken h5py
    build/wheel/bin/pip download --no-deps dashscope && unzip -j dashscope-*.whl dashscope/resources/qwen.tiktoken
    build/wheel/bin/python tests/data/tokenizers/compare.py build/release/trainer/ksa qwen.tiktoken TEXT...

A rank file is compared with tiktoken, and so is the tokenizer.json that is made of it, with tokenizers. Each text is cut
into documents of 500,000 characters. Exit status 1: some id differs. CPU time of one thread counts, for both.
"""
import base64
import json
import os
import pathlib
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import h5py  # noqa: E402
import numpy  # noqa: E402
import tiktoken  # noqa: E402
from tokenizers import Tokenizer  # noqa: E402

from oracle import QWEN2  # noqa: E402

DOCUMENT = 500_000
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def byte_letters():
    own = [b for b in range(256) if 0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b]
    rest = [b for b in range(256) if b not in own]
    return {**{b: chr(b) for b in own}, **{b: chr(256 + i) for i, b in enumerate(rest)}}


def ranks_of(path):
    lines = (line.split() for line in pathlib.Path(path).read_bytes().splitlines())
    return {base64.b64decode(token): int(rank) for token, rank in lines}


def to_tokenizer_json(ranks):
    """The merges of a token are all its cuts into two tokens, as transformers converts rank files."""
    letters = byte_letters()
    spelled = {token: "".join(letters[byte] for byte in token) for token in ranks}
    merges = []
    for token in sorted(ranks, key=ranks.get):
        cuts = [(token[:i], token[i:]) for i in range(1, len(token)) if token[:i] in ranks and token[i:] in ranks]
        merges += sorted(cuts, key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    cut = {"type": "Split", "pattern": {"Regex": QWEN2}, "behavior": "Isolated", "invert": False}
    return json.dumps({
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": len(ranks) + i, "content": name, **flags} for i, name in enumerate(SPECIAL)],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Sequence", "pretokenizers": [cut, level]},
        "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": "",
                  "end_of_word_suffix": "", "fuse_unk": False, "byte_fallback": False, "ignore_merges": False,
                  "vocab": {spelled[token]: rank for token, rank in ranks.items()},
                  "merges": [f"{spelled[a]} {spelled[b]}" for a, b in merges]}}, ensure_ascii=False)


def cpu(who):
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def ksa(program, tokenizer, folder, output):
    """Ids of every document, and CPU seconds of the whole command, shards written."""
    before = cpu(resource.RUSAGE_CHILDREN)
    subprocess.run([program, "data", "tokenize", "--input", folder, "--output", output, "--tokenizer", tokenizer,
                    "--documents", "file", "--threads", "1"], check=True, stdout=subprocess.DEVNULL)
    seconds = cpu(resource.RUSAGE_CHILDREN) - before
    with h5py.File(next(pathlib.Path(output).glob("*.h5"))) as shard:
        tokens, offsets = shard["tokens"][:], shard["document_offsets"][:]
    shutil.rmtree(output)
    return [tokens[a:b - 1] for a, b in zip(offsets[:-1].astype(int), offsets[1:].astype(int))], seconds


def report(name, texts, want, seconds, got, own_seconds):
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    wrong = sum(not numpy.array_equal(a, b) for a, b in zip(want, got)) + abs(len(want) - len(got))
    count = sum(len(ids) for ids in want)
    print(f"{name}: {megabytes:.1f} MB, {count} ids, {wrong} of {len(texts)} documents differ; "
          f"library {megabytes / seconds:.2f} MB/s, ksa {megabytes / own_seconds:.2f} MB/s "
          f"({seconds / own_seconds:.1f}x), a core", flush=True)
    return wrong


def compare(program, ranks, rank_file, json_file, path, scratch):
    text = pathlib.Path(path).read_bytes().decode()
    texts = [text[i:i + DOCUMENT] for i in range(0, len(text), DOCUMENT)]
    folder = scratch / "in"
    folder.mkdir()
    for i, document in enumerate(texts):
        (folder / f"{i:06d}.txt").write_bytes(document.encode())

    tokenizer = Tokenizer.from_file(str(json_file))
    tokenizer.encode_special_tokens = True
    start = cpu(resource.RUSAGE_SELF)
    want = [tokenizer.encode_batch_fast([t], add_special_tokens=False)[0].ids for t in texts]
    seconds = cpu(resource.RUSAGE_SELF) - start
    wrong = report(f"{path}, tokenizer.json", texts, want, seconds, *ksa(program, json_file, folder, scratch / "out"))

    special = {name: len(ranks) + i for i, name in enumerate(SPECIAL)}
    encoding = tiktoken.Encoding("ranks", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens=special)
    start = cpu(resource.RUSAGE_SELF)
    want = [encoding.encode(unicodedata.normalize("NFC", t), disallowed_special=()) for t in texts]
    seconds = cpu(resource.RUSAGE_SELF) - start
    wrong += report(f"{path}, .tiktoken", texts, want, seconds, *ksa(program, rank_file, folder, scratch / "out"))
    shutil.rmtree(folder)
    return wrong


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    program, rank_file, *paths = sys.argv[1:]
    ranks = ranks_of(rank_file)
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        json_file = scratch / "tokenizer.json"
        json_file.write_text(to_tokenizer_json(ranks), encoding="utf-8")
        start = time.time()
        wrong = sum(compare(program, ranks, rank_file, json_file, path, scratch) for path in paths)
        print(f"{time.time() - start:.0f} s; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
