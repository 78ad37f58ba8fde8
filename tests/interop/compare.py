"""What run.sh asks of transformers. Tolerance: 1e-5 of the largest logit, in fp32."""

import glob
import json
import os
import subprocess
import sys
import tempfile

import torch

torch.manual_seed(0)
torch.set_num_threads(1)
BOUND = 1e-5


def versions():
    import safetensors
    import tokenizers
    import transformers

    for module in (torch, transformers, safetensors, tokenizers):
        print(module.__name__, module.__version__)


def report(name, difference, bound):
    print(f"{name:<28} {difference:.1e}")
    if not difference <= bound:
        sys.exit(f"{name}: {difference} of the largest logit")


def relative(ours, theirs):
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def program_logits(checkpoint, sequences):
    """[tokens, vocabulary] of each sequence, from the program."""
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/ids", "w") as file:
            file.writelines(" ".join(map(str, ids)) + "\n" for ids in sequences)
        subprocess.run([os.environ["LOGITS"], checkpoint, f"{folder}/ids", f"{folder}/out"], check=True)
        with open(f"{folder}/out", "rb") as file:
            numbers = torch.frombuffer(bytearray(file.read()), dtype=torch.float32)
    rows = numbers.view(sum(map(len, sequences)), -1)
    return rows.split([len(ids) for ids in sequences])


def logits(folder, checkpoint, kind):
    """A batch of two texts, padded on the right without a mask, then on the left with one; loss; generate."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    own = json.load(open(f"{folder}/config.json"))["model_type"] == "ksa"
    model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=own, dtype=torch.float32).eval()
    texts = ["Kwai Summary Attention: what the mechanism is, ünd nötig", "a chunk of text"]
    sequences = [list(text.encode())[:40] for text in texts]
    if os.path.exists(f"{folder}/tokenizer.json"):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=own)
        odd = ["", " ", "\n\n  a\tb", "ünd\u2581<s>\u0000\U0001f600", "x" * 999]
        for text in texts + odd:
            assert tokenizer(text)["input_ids"] == list(text.encode()), text
            assert tokenizer.decode(list(text.encode())) == text, text
        assert tokenizer.eos_token_id == 256
    length = max(map(len, sequences))
    right = torch.tensor([ids + [256] * (length - len(ids)) for ids in sequences])
    expected = program_logits(checkpoint, sequences)
    size = expected[0].shape[1]
    with torch.no_grad():
        found = model(right).logits[..., :size]
        assert found.shape[:2] == right.shape
        worst = max(relative(found[i, : len(ids)], expected[i]) for i, ids in enumerate(sequences))
        report(f"{kind} {os.path.basename(folder)}", worst, BOUND)
        if not own:
            return
        left = torch.tensor([[256] * (length - len(ids)) + ids for ids in sequences])
        mask = torch.tensor([[0] * (length - len(ids)) + [1] * len(ids) for ids in sequences])
        found = model(left, attention_mask=mask).logits
        worst = max(relative(found[i, length - len(ids) :], expected[i]) for i, ids in enumerate(sequences))
        report("  padded on the left", worst, BOUND)
        labels = right.masked_fill(right == 256, -100)
        loss = model(right, labels=labels).loss
        by_hand = torch.cat(
            [torch.nn.functional.cross_entropy(rows[:-1], torch.tensor(ids[1:]), reduction="none")
             for rows, ids in zip(expected, sequences)]
        ).mean()
        assert abs(loss - by_hand) < 1e-5, (loss, by_hand)
        new = model.generate(left, attention_mask=mask, max_new_tokens=5)
        for i, ids in enumerate(sequences):
            greedy = list(ids)
            for token in new[i, length:].tolist():
                best = program_logits(checkpoint, [greedy])[0][-1, :257]
                assert token == best.argmax() or best.max() - best[token] < 1e-4 * best.abs().max(), (token, best)
                if token == 256:
                    break
                greedy.append(token)


def random_qwen3(folder):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=257, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=32, max_position_embeddings=128, tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6}, initializer_range=0.3,
    )
    model = Qwen3ForCausalLM(config)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model.save_pretrained(folder)


def golden(folder):
    """The module that exports ship, on the golden files, in fp64."""
    import importlib
    import h5py

    package = tempfile.mkdtemp()
    os.symlink(os.path.abspath("trainer/interop/python"), f"{package}/ksa_python")
    sys.path.insert(0, package)
    configuration = importlib.import_module("ksa_python.configuration_ksa")
    modeling = importlib.import_module("ksa_python.modeling_ksa")
    defaults = {"chunk_size": 8, "summary_tokens": 1, "window_chunks": 128, "text_positions": "origin",
                "summary_positions": "chunk_end", "full_layers": "attend"}
    pooled = {"chunk_size": 8, "window_chunks": 128, "compressed_positions": "chunk_end", "visibility": "disjoint",
              "independent_kv": True, "gate": "shared", "value_norm": True}
    independent = {"embedding": True, "qkv": True, "norm": False, "qk_norm": False}
    for path in sorted(glob.glob(f"{folder}/*.h5")):
        file = h5py.File(path)
        if "output/logits" not in file:
            continue
        for key in ("config", "config_full_attend"):
            if key not in file.attrs:
                continue
            config = json.loads(file.attrs[key])
            if "input/document_first_chunk" in file and file["input/document_first_chunk"][()].any():
                continue  # several documents in a sequence, which the module does not know
            attention = config.pop("attention")
            pattern = [entry if isinstance(entry, dict) else {"kind": entry} for entry in attention["pattern"]]
            attention["pattern"] = [dict(pattern[i % len(pattern)]) for i in range(config["num_hidden_layers"])]
            ksa = attention.get("ksa", {})
            attention["ksa"] = {**defaults, **ksa, "independent": {**independent, **ksa.get("independent", {})}}
            attention["hca"] = {**pooled, **attention.get("hca", {})}
            model = modeling.KsaForCausalLM(configuration.KsaConfig(
                **config, attention=attention, summary_mix=float(file.attrs.get("mix", 1.0))
            )).double()
            weights = {}
            file["weights"].visititems(
                lambda name, data: weights.update({name: torch.tensor(data[()])}) if hasattr(data, "shape") else None)
            if config["tie_word_embeddings"]:
                weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
            model.load_state_dict(weights)
            with torch.no_grad():
                found = model(torch.tensor(file["input/token_ids"][()]).long()[None]).logits[0]
            report("golden " + os.path.basename(path)[:-3], relative(found, torch.tensor(file["output/logits"][()])), 1e-13)


if __name__ == "__main__":
    tasks = {"versions": versions, "golden": golden, "logits": logits, "random": random_qwen3}
    tasks[sys.argv[1]](*sys.argv[2:])
