#!/usr/bin/env python3
"""`ksa` as the documents' commands find it: the real program, on inputs and sizes of tests/docs/table.py.

Environment: KSA, the program; KSA_DOCS_STORE, a folder for inputs that are made once; KSA_DOCS_ROOT, the tree. A
configuration is first checked as the document gives it, with `ksa check`; only then it becomes small.
"""

import fcntl
import math
import os
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import fixtures  # noqa: E402
import table  # noqa: E402

KSA = os.environ["KSA"]
MAKER = fixtures.Fixtures(KSA, os.environ["KSA_DOCS_STORE"], os.environ["KSA_DOCS_ROOT"])
RANK = int(os.environ.get("OMPI_COMM_WORLD_RANK", "0"))

# Which arguments are inputs: the positions behind the command's words, and options.
POSITIONAL_INPUTS = {("data", "inspect"): 1, ("data", "verify"): 99, ("data", "merge"): 99,
                     ("ckpt", "ls"): 1, ("ckpt", "inspect"): 1, ("ckpt", "verify"): 1, ("eval",): 1, ("generate",): 1, ("compare",): 99, ("train",): 1,
                     ("check",): 1, ("ablate",): 1, ("plan",): 1, ("inspect",): 1, ("report",): 99}
INPUT_OPTIONS = ("--input", "--data", "--validation", "--text", "--prompts")
SHARD_OPTIONS = ("--data", "--validation")
FLAGS = re.compile(r"--(dry-run|print|no-data|data|list|table|assert-equal|config|resume|special-tokens|help)$")


def command_of(arguments):
    """("train",) or ("data", "tokenize")."""
    words = 2 if arguments[0] in ("data", "ckpt", "bench") else 1
    return tuple(arguments[:words])


def option_before(arguments, index):
    return next((a for a in reversed(arguments[:index]) if a.startswith("--")), None)


def is_flag(command, option):
    return bool(FLAGS.match(option)) and not (option == "--data" and command == ("eval",))


def inputs_of(command, arguments):
    """Indices of arguments that name an input."""
    found, positional, option = [], 0, None
    for index, argument in enumerate(arguments):
        if argument.startswith("--"):
            option = None if is_flag(command, argument) else argument
            continue
        if option in INPUT_OPTIONS or option == "--tokenizer":
            if argument != "byte":
                found.append(index)
            option = option if option in ("--input", "--tokenizer") else None
            continue
        if option is None:
            positional += 1
            if positional <= POSITIONAL_INPUTS.get(command, 0):
                found.append(index)
        option = None
    return found


def expanded(argument):
    """The files of a pattern that the shell found nothing for, before they were made."""
    import glob
    return sorted(glob.glob(argument)) if "*" in argument else [argument]


def small_set(assignment):
    key, _, value = assignment.partition("=")
    change = table.SMALL_VALUES.get(key)
    return f"{key}={change(value)}" if change else assignment


def sets_of(arguments):
    return [arguments[i + 1] for i, argument in enumerate(arguments[:-1]) if argument == "--set"]


def check_as_documented(config, arguments):
    """Ends where the configuration is wrong, as it is documented. Makes the data that it names; its batch sizes."""
    check = [KSA, "check", config, "--no-data", "--print"]
    for assignment in sets_of(arguments):
        check += ["--set", assignment]
    shown = subprocess.run(check, stdout=subprocess.PIPE, text=True, check=False,
                           stderr=subprocess.DEVNULL if RANK > 0 else None)
    if shown.returncode != 0:
        sys.exit(shown.returncode)
    batch = {}
    for line in shown.stdout.splitlines():
        if re.match(r"\s*(train|validation): \[", line):
            for path in re.findall(r"path: ([^,}]+)", line):
                make_data(path)
        size = re.match(r"\s*(global_batch_size|micro_batch_size): (\d+)", line)
        if size:
            batch.setdefault(size.group(1), int(size.group(2)))
    return batch


def make_data(path):
    if not os.path.lexists(path):
        held_out = "valid" in os.path.basename(path)
        (MAKER.make_held_out_shards if held_out else MAKER.make_shards)(path)


def small_run(arguments, batch):
    # One, two, four or eight data ranks share the small batch if and only if they share the documented one.
    shared = math.gcd(batch["global_batch_size"], 8 * batch.get("micro_batch_size", 1))
    small = table.SMALL_RUN + [f"training.global_batch_size={shared}"]
    sets = [word for assignment in small for word in ("--set", assignment)]
    own = [small_set(a) if i > 0 and arguments[i - 1] == "--set" else a for i, a in enumerate(arguments)]
    return own[:1] + sets + own[1:]


def small_sweep(path):
    """A sweep of fewer cells in the store; what it is based on is named from the root."""
    with open(path, encoding="utf-8") as file:
        text = file.read()
    small = text
    for pattern, replacement in table.SMALL_SWEEP:
        small = re.sub(pattern, replacement, small)
    if small == text:
        return path
    base = lambda found: "base: " + os.path.abspath(os.path.join(os.path.dirname(path), found.group(1)))
    small = re.sub(r"^base: *(\S+)", base, small, flags=re.M)
    target = os.path.join(os.environ["KSA_DOCS_STORE"], os.path.basename(path))
    with open(target, "w", encoding="utf-8") as file:
        file.write(small)
    return target


def with_small_options(command, arguments):
    arguments = list(arguments)
    for option, value in table.SMALL_OPTION_VALUES.get(command, {}).items():
        if option in arguments:
            begin = arguments.index(option) + 1
            end = begin
            while end < len(arguments) and not arguments[end].startswith("--"):
                end += 1
            arguments[begin:end] = [value]
    for option, value in table.SMALL_OPTIONS.get(command, {}).items():
        if option not in arguments:
            arguments += [option, value]
    return arguments


def few_lines(path):
    """The first two lines of a text that have something in them, in a file of their own."""
    with open(path, encoding="utf-8") as text:
        lines = [line for line in text if line.strip()][:2]
    small = path + ".few"
    with open(small, "w", encoding="utf-8") as out:
        out.writelines(lines)
    return small


def prepare(command, arguments):
    """One rank at a time: they all ask for the same inputs."""
    arguments = list(arguments)
    for index in reversed(inputs_of(command, arguments)):
        if option_before(arguments, index) in SHARD_OPTIONS:
            make_data(arguments[index])
        MAKER.ensure(arguments[index])
        if option_before(arguments, index) == "--prompts":
            arguments[index] = few_lines(arguments[index])
        arguments[index:index + 1] = expanded(arguments[index])
    if command in table.TAKES_MODEL:
        arguments = [word for assignment in table.SMALL_MODEL for word in ("--set", assignment)] + arguments
    if command in (("train",), ("ablate",)):
        arguments = small_run(arguments, check_as_documented(arguments[0], arguments))
    if command == ("ablate",):
        arguments[0] = small_sweep(arguments[0])
    return with_small_options(command, arguments)


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0].startswith("-"):
        os.execv(KSA, [KSA, *arguments])
    command = command_of(arguments)
    os.makedirs(os.environ["KSA_DOCS_STORE"], exist_ok=True)
    with open(os.path.join(os.environ["KSA_DOCS_STORE"], "lock"), "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        arguments = list(command) + prepare(command, arguments[len(command):])
    answers = table.ANSWERS.get(command)
    if not answers:
        os.execv(KSA, [KSA, *arguments])
    code = subprocess.run([KSA, *arguments], check=False).returncode
    sys.exit(0 if code in answers else code)


main()
