#!/usr/bin/env python3
"""Makes the tokenizers beside this file, and cases.json: the ids that Hugging Face's own library gives for hard texts.

By hand, for the tests need no Python:
    python3 -m venv build/wheel && build/wheel/bin/pip install tokenizers tiktoken
    build/wheel/bin/python tests/data/tokenizers/oracle.py
"""
import base64
import itertools
import json
import pathlib
import random
import unicodedata

import tiktoken
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
O200K = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
CODE = [r"[\r\n]", r"\s?[A-Za-z\u00B5\u00C0-\u00D6\u00D8-\u00F6\u00F8-\u01BA]+", r"\s+$",
        r"[\u4E00-\u9FA5\u0800-\u4E00\uAC00-\uD7FF]+"]

TRAINING = """The summary of a window reads the text, and nothing else; it's what we've seen that they'll read again.
for (int i = 0; i < 1024; ++i) {\n    sum += values[i] * weights[i];\n}\n\treturn sum / 1024.0f;\n
def attention(query, key, value):\n        return softmax(query @ key.T) @ value\n
\u041a\u0440\u0430\u0442\u043a\u043e\u0435 \u0441\u043e\u0434\u0435\u0440\u0436\u0430\u043d\u0438\u0435 \u0442\u0435\u043a\u0441\u0442\u0430, \u0438 \u0441\u043d\u043e\u0432\u0430 \u0442\u0435\u043a\u0441\u0442.
\u4e2d\u6587\u7684\u6587\u672c\uff0c\u6ca1\u6709\u7a7a\u683c\u3002\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3067\u3059\u3002\ud55c\uad6d\uc5b4 \ud14d\uc2a4\ud2b8.
caf\u00e9 na\u00efve \u00fcber stra\u00dfe \u1e9e d\u00e9j\u00e0 vu \u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0645\u0631\u062d\u0628\u0627
2026-11-30 12345 3.14159 1,000,000 0x7fff https://example.org/a?b=c&d=e#f
"""

# A text is a list of [part, how often]: long ones stay short in the file.
TEXTS = [[[text, 1]] for text in [
    "", " ", "a", "the summary of a window", " leading", "trailing ", "two  spaces", "tabs\t\tand\nbreaks\r\n\r\nhere",
    "it's WE'VE They'LL i'd I'M 'tis '\u017f 's'S", "x = 3; // 123456789 0.5e-10", "\u0967\u0968\u0969 \u2167 \u00bd \u00b2",
    "snake_case camelCase HTTPServer ABCdefGHI", "!!!??? ... --- \u2014 \u00ab\u00bb", "a\u00a0b\u2003c\u180ed\u200be\u3000f\u0085g",
    "\u043f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! \u0422\u0415\u041a\u0421\u0422", "\u4e2d\u6587\u7684\u6587\u672c\u6ca1\u6709\u7a7a\u683c\uff0c\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8",
    "\ud55c\uad6d\uc5b4 \u1112\u1161\u11ab\u1100\u116e\u11a8", "cafe\u0301 e\u0301\u0323 q\u0307\u0323 \u0344 \u212b \u2126 \u0958 \u1e9b\u0323",
    "\u0928\u092e\u0938\u094d\u0924\u0947 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd", "\U0001f600\U0001f469\u200d\U0001f469\u200d\U0001f467\U0001f3fd \U0001d518\U0001d52b \ufffd\ufffd",
    "a\u0000b\u0001\u001f\u007f\u0080\uffff\U0010ffff", "\ufeffbyte order", "line\n\n\n  indented\n\tmore\n   ", "\n\n", " \n \n ", "\r", "    x",
    "#include <stdio.h>\nint main(void) {\n\tprintf(\"%d\\n\", 42);\n    return 0;\n}\n", "\u01c5\u02b0\u1d43 \u1e9e\u00df", "a/b\n/c//\n/",
    "<|endoftext|>", "a<|endoftext|>b <|endoftext|> c<|endof", "<|endoftext|><|endoftext|>", "<think>why</think> <think >",
    "  <left>  x  <right>  y  <word> z<word> <word>\u00e9 _<word> <word>", "<left>  <right>  <left>", "caf\u00e9s caf\u00e9 cafe\u0301",
    "<|end<|endoftext|>of<inner>text|> <|a<inner>|>", "a    b        c  d",
]] + [
    [["a", 3000]], [[" ", 5000]], [[" ", 777], ["x", 1]], [["\n", 300]], [["\t ", 90]], [["ab", 150], [" the", 50]],
    [["\u4e2d", 150]], [["e\u0301", 90]], [["0", 1000]], [["-", 500]], [["\u0301", 90]], [["summary window ", 40]], [["'s", 60]],
]


# What expressions tell apart, in all orders: many kinds of space and break, letters of all cases, marks, digits, signs.
NASTY = list(" \t\n\r\v\f\u0085\u00a0\u1680\u180e\u2003\u2028\u202f\u200b\ufeff\u3000ab'sStTrRlLdDmM\u017fk\u212a\u00df"
             "1\u0663\u2167\u00bd\u0301\u0903\u20dd-_/.!\u00ab\u20ac\u4e2d\u3042\uac00\u1112\u1161\u01c5\u02b0\u0430\U0001f600")
random.seed(15)
TEXTS += [[["".join(random.choice(NASTY) for _ in range(40)), 1]] for _ in range(60)]


def text_of(parts):
    return "".join(part * count for part, count in parts)


def train(pre, normalizer=None, size=480):
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet())
    tokenizer.train_from_iterator([TRAINING] * 4, trainer)
    return tokenizer


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def sequence(*parts):
    return pre_tokenizers.Sequence(list(parts))


def byte_level(regex, space=False):
    return pre_tokenizers.ByteLevel(add_prefix_space=space, use_regex=regex)


def kinds():
    nfc = normalizers.NFC()
    made = {
        "gpt2": train(byte_level(True)),
        "prefix": train(byte_level(True, space=True)),
        "neox": train(byte_level(True), nfc),
        "qwen2": train(sequence(split(QWEN2), byte_level(False)), nfc),
        "llama3": train(sequence(split(LLAMA3), byte_level(False))),
        "o200k": train(sequence(split(O200K), byte_level(False)), normalizers.Sequence([nfc])),
        "digits": train(sequence(pre_tokenizers.Digits(individual_digits=True), byte_level(True))),
        "several": train(sequence(*[split(pattern) for pattern in CODE], pre_tokenizers.Digits(individual_digits=False),
                                  byte_level(True))),
        "bytes": train(byte_level(False), size=256),
    }
    for tokenizer in made.values():
        tokenizer.add_special_tokens(["<|endoftext|>"])
    made["gpt2"].add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made["qwen2"].add_special_tokens(["<|im_start|>", "<|im_end|>"])
    made["qwen2"].add_tokens([AddedToken("<think>", normalized=False), AddedToken("</think>", normalized=False)])
    # Every way to be found; some inside others, some only in normalized text.
    made["neox"].add_tokens([AddedToken(" " * n, normalized=True) for n in (8, 4, 2)])
    made["neox"].add_tokens([AddedToken("caf\u00e9", normalized=True)])
    made["o200k"].add_tokens([
        AddedToken("<left>", lstrip=True, normalized=False), AddedToken("<right>", rstrip=True, normalized=False),
        AddedToken("<word>", single_word=True, normalized=False), AddedToken("<inner>", normalized=False),
        AddedToken("<|a<inner>|>", special=True, normalized=False), AddedToken("cafe\u0301", normalized=True)])
    made["llama3"].add_special_tokens([AddedToken("<|begin_of_text|>", lstrip=True, normalized=True)])
    return made


def variants(name, tokenizer):
    """The file's JSON: with what the library writes only for models that ask for it."""
    file = json.loads(tokenizer.to_str())
    if name == "llama3":
        file["model"]["ignore_merges"] = True
        for token in [t for t in file["model"]["vocab"] if t in ("\u0120summary", "\u0120window")]:
            assert token  # a word that is a token as a whole; below its merge is gone
            file["model"]["merges"] = [m for m in file["model"]["merges"] if "".join(m) != token]
    if name == "gpt2":  # the old form
        file["model"]["merges"] = [" ".join(m) for m in file["model"]["merges"]]
        del file["model"]["ignore_merges"]
        file["pre_tokenizer"].pop("use_regex")
        file["model"]["continuing_subword_prefix"] = file["model"]["end_of_word_suffix"] = ""
    return json.dumps(file, ensure_ascii=False, separators=(",", ":"))


def short(ids):
    """Ids as a text in which a run stands once: `5 6x3000`."""
    return " ".join(f"{i}x{count}" if count > 1 else str(i)
                    for i, count in ((i, len(list(run))) for i, run in itertools.groupby(ids)))


def compact(plain, special):
    """Texts without special tokens have the same ids both ways, which are written once."""
    return {"plain": [short(ids) for ids in plain],
            "special": {str(i): short(ids) for i, ids in enumerate(special) if ids != plain[i]}}


def encode(tokenizer, special):
    tokenizer.encode_special_tokens = not special
    return [tokenizer.encode(text_of(parts), add_special_tokens=False).ids for parts in TEXTS]


def words(pattern):
    """The bytes of each word of each text."""
    cut = pre_tokenizers.Split(Regex(pattern), "isolated")
    return [short([len(word.encode()) for word, _ in cut.pre_tokenize_str(text_of(parts))]) for parts in TEXTS]


def rank_file(qwen2):
    """The tokens of a tokenizer as a rank file, and what tiktoken makes of it."""
    letters = {}
    for byte in range(256):
        own = 0x21 <= byte <= 0x7E or 0xA1 <= byte <= 0xAC or 0xAE <= byte
        letters[chr(byte if own else 256 + sum(1 for b in letters.values() if b < byte and not (
            0x21 <= b <= 0x7E or 0xA1 <= b <= 0xAC or 0xAE <= b)))] = byte
    vocab = json.loads(qwen2.to_str())["model"]["vocab"]
    ranks = {bytes(letters[letter] for letter in token): number for token, number in vocab.items()}
    lines = [base64.b64encode(token).decode() + f" {rank}\n" for token, rank in sorted(ranks.items(), key=lambda x: x[1])]
    (HERE / "small.tiktoken").write_text("".join(lines))
    special = {name: len(ranks) + i for i, name in enumerate(["<|endoftext|>", "<|im_start|>", "<|im_end|>"])}
    encoding = tiktoken.Encoding("small", pat_str=QWEN2, mergeable_ranks=ranks, special_tokens=special)
    texts = [unicodedata.normalize("NFC", text_of(parts)) for parts in TEXTS]
    return compact([encoding.encode(text, disallowed_special=()) for text in texts],
                   [encoding.encode(text, allowed_special="all") for text in texts])


def main():
    expected = {}
    for name, made in kinds().items():
        file = variants(name, made)
        (HERE / f"{name}.json").write_text(file + "\n", encoding="utf-8")
        tokenizer = Tokenizer.from_str(file)
        expected[f"{name}.json"] = compact(encode(tokenizer, False), encode(tokenizer, True))
    expected["small.tiktoken"] = rank_file(Tokenizer.from_file(str(HERE / "qwen2.json")))
    gpt2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    odd = [r"\S+", r"[\S\n]", r"\d+|\D", r"[^\d\s]+$", r"^.", r".+", r"(?<=a)\s|(?<!\s)b", r"(?i:k|s+?)?a".replace("+?", ""),
           r"\p{Han}|\P{L}|\p{^M}", r"(?>\s+)\S|a?+b", r"\u3042|\x{4E2D}|\x41|\-", r"[\p{Lu}\P{L}]{2,}", r"\v|\f|\t"]
    expressions = {pattern: words(pattern) for pattern in [gpt2, QWEN2, LLAMA3, O200K, *CODE, r"\p{N}", r"\p{N}+", *odd]}
    cases = {"texts": TEXTS, "expected": expected, "words": expressions}
    (HERE / "cases.json").write_text(json.dumps(cases, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
