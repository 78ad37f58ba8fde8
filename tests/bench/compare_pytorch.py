#!/usr/bin/env python3
"""Training steps of one model in eager PyTorch and in `ksa bench step`, side by side in one run. Run by hand:

    pip install torch
    python3 tests/bench/compare_pytorch.py --ksa build/release/trainer/ksa --threads 2 --json comparison.json

PyTorch models of configs/model/ksa_36m.yaml's size, fp32, batch 1, random tokens:
  dense mask   the KSA model; summaries stand behind the text, the mask is dense, through scaled_dot_product_attention
  causal       the same without summaries, is_causal=True: what one would train instead
A step is forward, loss, backward, clip_grad_norm_ and AdamW (fused). Medians after warm-up.
"""
import argparse
import json
import math
import os
import statistics
import subprocess
import tempfile
import time

import torch
import torch.nn.functional as F
from torch import nn

VOCABULARY, WIDTH, FEED_FORWARD, LAYERS, HEADS = 4096, 512, 1408, 8, 8
HEAD_DIM = WIDTH // HEADS
CHUNK, WINDOW = 8, 16
MODEL_FILE = "configs/model/ksa_36m.yaml"


class RmsNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, self.weight.shape, self.weight, 1e-6)


def linear(rows_in, rows_out):
    layer = nn.Linear(rows_in, rows_out, bias=False)
    nn.init.normal_(layer.weight, std=0.02)
    return layer


def rotate(x, cos, sin):
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


class Attention(nn.Module):
    def __init__(self, summaries):
        super().__init__()
        self.projections = nn.ModuleList(linear(WIDTH, WIDTH) for _ in range(3))
        self.summary_projections = nn.ModuleList(linear(WIDTH, WIDTH) for _ in range(3)) if summaries else None
        self.q_norm, self.k_norm = RmsNorm(HEAD_DIM), RmsNorm(HEAD_DIM)
        self.out = linear(WIDTH, WIDTH)

    def project(self, x, index, text_rows):
        if self.summary_projections is None:
            y = self.projections[index](x)
        else:
            y = torch.cat((self.projections[index](x[:text_rows]), self.summary_projections[index](x[text_rows:])))
        return y.view(-1, HEADS, HEAD_DIM).transpose(0, 1)  # [h, n, e]

    def forward(self, x, setting):
        q, k, v = (self.project(x, i, setting["text_rows"]) for i in range(3))
        q = rotate(self.q_norm(q), setting["cos"], setting["sin"])
        k = rotate(self.k_norm(k), setting["cos"], setting["sin"])
        mask = setting["mask"]
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, is_causal=mask is None)[0]
        return self.out(y.transpose(0, 1).reshape(-1, WIDTH))


class Block(nn.Module):
    def __init__(self, summaries):
        super().__init__()
        self.attention_norm, self.mlp_norm = RmsNorm(WIDTH), RmsNorm(WIDTH)
        self.attention = Attention(summaries)
        self.gate, self.up = linear(WIDTH, FEED_FORWARD), linear(WIDTH, FEED_FORWARD)
        self.down = linear(FEED_FORWARD, WIDTH)

    def forward(self, x, setting):
        x = x + self.attention(self.attention_norm(x), setting)
        y = self.mlp_norm(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Model(nn.Module):
    def __init__(self, summaries):
        super().__init__()
        self.embedding = nn.Parameter(torch.randn(VOCABULARY, WIDTH) * 0.02)
        self.summary_embedding = nn.Parameter(torch.randn(1, WIDTH) * 0.02) if summaries else None
        self.blocks = nn.ModuleList(Block(summaries) for _ in range(LAYERS))
        self.norm = RmsNorm(WIDTH)
        self.head = linear(WIDTH, VOCABULARY)

    def forward(self, ids, targets, setting):
        x = F.embedding(ids, self.embedding)
        if self.summary_embedding is not None:
            x = torch.cat((x, self.summary_embedding.expand(setting["positions"].numel() - ids.numel(), -1)))
        for block in self.blocks:
            x = block(x, setting)
        return F.cross_entropy(self.head(self.norm(x[: ids.numel()])), targets)


def make_setting(tokens, summaries):
    """Positions, rotations and mask of text rows, then one summary a chunk."""
    chunks = (tokens + CHUNK - 1) // CHUNK
    positions = torch.arange(tokens)
    mask = None
    if summaries:
        last = torch.clamp(torch.arange(chunks) * CHUNK + CHUNK, max=tokens) - 1
        positions = torch.cat((positions, last))
        text, summary = torch.arange(tokens), torch.arange(chunks)
        chunk = text // CHUNK
        text_text = (text[:, None] >= text) & (chunk >= chunk[:, None] - WINDOW)
        text_summary = summary < chunk[:, None] - WINDOW
        summary_text = chunk == summary[:, None]
        summary_summary = torch.eye(chunks, dtype=torch.bool)
        mask = torch.cat((torch.cat((text_text, text_summary), 1), torch.cat((summary_text, summary_summary), 1)))
    angles = positions[:, None] / 10000.0 ** (torch.arange(0, HEAD_DIM, 2) / HEAD_DIM)
    return {"text_rows": tokens, "positions": positions, "cos": angles.cos(), "sin": angles.sin(), "mask": mask}


def bench_pytorch(summaries, tokens, steps):
    torch.manual_seed(1234)
    model = Model(summaries)
    setting = make_setting(tokens, summaries)
    ids = torch.randint(VOCABULARY, (tokens + 1,))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    times, first_loss = [], None
    for step in range(2 + steps):
        begin = time.perf_counter()
        loss = model(ids[:-1], ids[1:], setting)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - begin)
        first_loss = loss.item() if step == 0 else first_loss
    seconds = statistics.median(times[2:])
    check_first_loss("PyTorch", first_loss)
    return {"tokens_per_second": tokens / seconds, "milliseconds": seconds * 1e3, "first_loss": first_loss,
            "parameters": sum(p.numel() for p in model.parameters())}


def check_first_loss(what, loss):
    # Of logits with variance s over random targets it is about ln v + s/2; here s = 512 · 0.02² = 0.2.
    expected = math.log(VOCABULARY) + WIDTH * 0.02**2 / 2
    assert abs(loss - expected) < 0.1, f"{what}: the first loss is {loss:.3f}, expected {expected:.3f}"


def bench_ksa(arguments):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "step.json")
        subprocess.run([arguments.ksa, "bench", "step", "--model", MODEL_FILE, "--threads", str(arguments.threads),
                        "--steps", str(arguments.steps), "--with-full", "--json", path,
                        "--sequence-length", *map(str, arguments.lengths)], check=True, stdout=subprocess.DEVNULL)
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
    for row in report["rows"]:
        check_first_loss("ksa", row["first_loss"])
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ksa", default="build/release/trainer/ksa", help="the ksa program")
    parser.add_argument("--lengths", type=int, nargs="+", default=[1024, 4096])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--json", help="also write the results to this file")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    ours = bench_ksa(arguments)
    print(f"{ours['device']}, {arguments.threads} threads, fp32, batch 1, PyTorch {torch.__version__}")
    print(f"{'T':>6}  {'model':<28}{'tokens/s':>10}{'step ms':>10}{'ksa faster by':>15}")
    results = []
    for tokens in arguments.lengths:
        rows = {row["pattern"]: row for row in ours["rows"] if row["text_tokens"] == tokens}
        rows = {"ksa": rows["as given"], "ksa, full attention": rows["full attention"],
                "PyTorch, dense mask": bench_pytorch(True, tokens, arguments.steps),
                "PyTorch, causal": bench_pytorch(False, tokens, arguments.steps)}
        assert rows["ksa"]["parameters"] == rows["PyTorch, dense mask"]["parameters"], "not the same model"
        assert rows["ksa, full attention"]["parameters"] == rows["PyTorch, causal"]["parameters"], "not the same model"
        for name, row in rows.items():
            ratio = rows["ksa"]["tokens_per_second"] / row["tokens_per_second"]
            print(f"{tokens:>6}  {name:<28}{row['tokens_per_second']:>10.1f}{row['milliseconds']:>10.1f}{ratio:>14.2f}x")
            results.append({"text_tokens": tokens, "model": name, "ksa_faster_by": ratio,
                            "tokens_per_second": row["tokens_per_second"], "milliseconds": row["milliseconds"]})
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump({"device": ours["device"], "threads": arguments.threads, "torch": torch.__version__,
                       "rows": results}, file, indent=2)


if __name__ == "__main__":
    main()
