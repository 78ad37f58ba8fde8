"""Makes the small inputs that documented commands name and that are not there: table.PLACEHOLDERS says which."""

import fnmatch
import os
import pathlib
import re
import shutil
import struct
import subprocess

import table

TEXTS = 150
CONFIG = "tests/docs/small.yaml"


class Fixtures:
    """`ksa`: the program. `store`: a folder in which each kind of input is made once. `root`: of the tree."""

    def __init__(self, ksa, store, root):
        self.ksa = ksa
        self.store = pathlib.Path(store)
        self.root = pathlib.Path(root)

    def ensure(self, path):
        """Makes what `path` (perhaps a shell's pattern) names, unless it is there or has to be real."""
        path = path.rstrip("/")
        if path.startswith(table.REAL) or os.path.lexists(path):
            return
        for pattern, kind in table.PLACEHOLDERS:
            if fnmatch.fnmatch(path, pattern):
                print(f"  ({path}: made up, {kind.replace('_', ' ')})", flush=True)
                getattr(self, "make_" + kind)(path)
                return

    # --- text

    def texts(self):
        """Pieces of the project's pages, each long enough for a sample."""
        pages = sorted((self.root / "docs").rglob("*.md")) + [self.root / "README.md"]
        text = "\n".join(page.read_text() for page in pages)
        return [text[i * 1500:(i + 1) * 1500] for i in range(TEXTS)]

    def make_texts(self, path):
        """A pattern stands for many files, a name for one."""
        texts = self.texts()
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        if "*" not in path:
            pathlib.Path(path).write_text("\n\n".join(texts))
            return
        for number, text in enumerate(texts):
            pathlib.Path(path.replace("*", f"{number:03}")).write_text(text)

    def make_text_folder(self, path):
        self.make_texts(os.path.join(path, "*.txt"))

    def make_jsonl(self, path):
        import json
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        lines = [json.dumps({"text": text, "title": "page"}) for text in self.texts()]
        pathlib.Path(path.replace("*", "0")).write_text("\n".join(lines) + "\n")

    def make_nanogpt(self, path):
        tokens = [1 + i * i % 251 for i in range(5000)] + [256]
        pathlib.Path(path).write_bytes(struct.pack(f"<{len(tokens)}H", *tokens))

    # --- made by the program, once

    def stored(self, name, make):
        target = self.store / name
        if not target.exists():
            os.makedirs(self.store, exist_ok=True)
            make(target)
        return target

    def run(self, *arguments, cwd=None):
        subprocess.run([self.ksa, *arguments], check=True, cwd=cwd, stdout=subprocess.DEVNULL)

    def corpus(self):
        def make(target):
            text = self.store / "text.txt"
            self.make_texts(str(text))
            self.run("data", "tokenize", "--input", str(text), "--output", str(target), "--tokenizer", "byte",
                     "--documents", "blank-line", "--validation-fraction", "0.1")
        return self.stored("corpus", make)

    @staticmethod
    def place(source, path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)

    def make_corpus(self, path):
        self.place(self.corpus(), path)

    def make_shards(self, path):
        self.place(self.corpus() / "train", path)

    def make_held_out_shards(self, path):
        self.place(self.corpus() / "validation", path)

    def make_sentencepiece(self, path):
        self.place(self.stored("m.model", lambda target: self.run(
            "data", "train-tokenizer", "--input", str(self.corpus().parent / "text.txt"), "--output", str(target),
            "--vocab-size", "400")), path)

    def make_tokenizer_json(self, path):
        self.place(self.root / "tests/data/tokenizers/gpt2.json", path)

    # --- configurations and runs

    def config(self, name, data):
        text = (self.root / CONFIG).read_text()
        return text.replace("NAME", name).replace("DATA", str(data))

    def make_config(self, path):
        pathlib.Path(path).write_text(self.config(pathlib.Path(path).stem, "runs/corpus/books"))

    def make_sweep(self, path):
        base = pathlib.Path(path).with_name("base_of_sweep.yaml")
        self.make_config(str(base))
        pathlib.Path(path).write_text(f"name: {pathlib.Path(path).stem}\nbase: {base.name}\naxes: {{run.seed: [1, 2]}}\n")

    def make_run(self, path):
        """A run of 12 updates; of a path inside a run, the whole run."""
        run = re.match(r"(.*?)(/checkpoints(/.*)?)?$", path).group(1)

        def make(target):
            config = self.store / "run.yaml"
            config.write_text(self.config("run", self.corpus()))
            self.run("train", str(config), "--set", f"run.dir={target}")
        if not os.path.lexists(run):
            self.place(self.stored("run", make), run)
        if not os.path.lexists(path):  # a step of its own
            self.place(pathlib.Path(run) / "checkpoints" / "step_00000012", path)
