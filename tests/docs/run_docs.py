#!/usr/bin/env python3
"""Runs the commands of the documents: run_docs.py [PAGE...], by default README.md, CONTRIBUTING.md and docs/**/*.md; with
--help-screens instead the examples of every `ksa COMMAND --help`.

Every fenced block with a line that begins with ksa, launch/, mpirun or sbatch is run as a script, the blocks of a page one
after the other in a folder of their own, so that a page may tell a story. A block is excused as a whole by what stands
behind its language (```bash not run: REASON), a line by tests/docs/table.py, which also says what becomes small and what is
made up. A YAML block with a run's name is that run's configuration, and one with a base a sweep: NAME.yaml. Environment: KSA, the program. Exit status:
0 all ran; 1 a line failed, with its page and number.
"""

import dataclasses
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE))
import table  # noqa: E402

OURS = re.compile(r"\s*((until|while|if|time|nohup)\s+)?([A-Z_]+=\S*\s+)*"
                  r"(ksa(\s|$)|launch/|mpirun\s|sbatch\s|\S*/ksa\s)")
SECONDS_A_BLOCK = 400


@dataclasses.dataclass
class Block:
    page: str
    line: int  # of the first line in it
    info: str
    lines: list

    def is_ours(self):
        return any(OURS.match(line) for line in self.lines)

    def reason(self):
        found = re.search(r"not run: *(\S.*)", self.info)
        return found.group(1) if found else None


def blocks_of(page, text):
    """The fenced blocks. A fence that is never closed is an error."""
    blocks, fence = [], None
    for number, line in enumerate(text.splitlines(), 1):
        mark = re.match(r"( {0,3})(`{3,}|~{3,})(.*)$", line)
        if fence is None:
            if mark:
                fence = mark.group(2)
                blocks.append(Block(page, number + 1, mark.group(3).strip(), []))
        elif mark and mark.group(2).startswith(fence) and not mark.group(3).strip():
            fence = None
        else:
            blocks[-1].lines.append(line)
    if fence is not None:
        sys.exit(f"{page}:{blocks[-1].line - 1}: this block is never closed")
    return blocks


def excuse(line):
    for pattern, reason in table.NOT_RUN:
        if re.match(pattern, line.strip()):
            return reason
    return None


def script_of(block, used):
    """The block as a script whose line numbers are the page's, and the (line, reason) of what is left out."""
    lines, excused, continued = [], [], False
    for number, line in enumerate(block.lines, block.line):
        if not continued:
            reason = excuse(line)
        if reason:
            excused.append((number, line.strip(), reason))
            used.add(reason)
        lines.append(":" if reason else line)
        continued = line.endswith("\\")
    prelude = ("set -eEuo pipefail; trap 'code=$?; echo \"" + block.page +
               ":$LINENO: exit code $code: $BASH_COMMAND\" >&2; exit $code' ERR")
    return "\n" * (block.line - 2) + prelude + "\n" + "\n".join(lines) + "\n", excused


def sandbox(parent):
    """A working directory that looks like the root of the tree, with `ksa` as tests/docs/small_ksa.py."""
    folder = pathlib.Path(tempfile.mkdtemp(dir=parent))
    for name in ("configs", "docs", "launch"):
        (folder / name).symlink_to(ROOT / name)
    for place in ("bin", "build/release/trainer", "build/cuda/trainer"):
        (folder / place).mkdir(parents=True)
        (folder / place / "ksa").symlink_to(HERE / "small_ksa.py")
    return folder


def environment(folder, parent):
    result = dict(os.environ)
    result.update({
        "PATH": f"{folder}/bin:{os.environ['PATH']}",
        "KSA_DOCS_STORE": f"{parent}/store",
        "KSA_DOCS_ROOT": str(ROOT),
        "OMP_WAIT_POLICY": "passive",
        # As root, with more ranks than cores.
        "OMPI_ALLOW_RUN_AS_ROOT": "1",
        "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
        "OMPI_MCA_rmaps_base_oversubscribe": "1",
        "OMPI_MCA_mpi_yield_when_idle": "1",
        "OMPI_MCA_btl_vader_single_copy_mechanism": "none",
    })
    return result


def save_config(block, folder):
    """A YAML block that names a run or a sweep is what the next commands call NAME.yaml."""
    text = "\n".join(block.lines)
    name = re.search(r"^run: *\{ *name: *([\w-]+)|^run:\s*\n\s+name: *([\w-]+)", text, re.M)
    if name is None and re.search(r"^base: ", text, re.M):
        name = re.search(r"^name: *([\w-]+)()", text, re.M)
    if block.info.startswith("yaml") and name:
        (folder / f"{name.group(1) or name.group(2)}.yaml").write_text(text + "\n")


def run_script(path, folder, parent):
    """Exit code and output. A script that is late is ended with all that it started."""
    with subprocess.Popen(["bash", str(path)], cwd=folder, env=environment(folder, parent), start_new_session=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        try:
            output, code = process.communicate(timeout=SECONDS_A_BLOCK)[0], process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            output, code = process.communicate()[0] + f"\nnot done in {SECONDS_A_BLOCK} s".encode(), 124
    return code, output.decode(errors="replace")


def run_block(block, folder, parent, used):
    """The number of lines that failed: the first one ends the block."""
    where = f"{block.page}:{block.line}"
    if block.reason():
        print(f"{where}: not run: {block.reason()}")
        return 0
    script, excused = script_of(block, used)
    for number, line, reason in excused:
        print(f"{block.page}:{number}: not run: {line}: {reason}")
    path = folder / "block.sh"
    path.write_text(script)
    begin = time.monotonic()
    code, output = run_script(path, folder, parent)
    print(f"{where}: {'ran' if code == 0 else 'FAILED'} ({time.monotonic() - begin:.1f} s)")
    if code != 0:
        print("  " + "\n  ".join(output.splitlines()[-40:]), flush=True)
    return 1 if code != 0 else 0


def run_page(page, text, parent, used):
    failures = 0
    folder = sandbox(parent)
    for block in blocks_of(page, text):
        if block.is_ours():
            failures += run_block(block, folder, parent, used)
        else:
            save_config(block, folder)
    shutil.rmtree(folder)
    return failures


def help_screens():
    """The examples of each command as a page of one block."""
    ksa = os.environ["KSA"]
    script = subprocess.run([ksa, "completion", "bash"], check=True, text=True, stdout=subprocess.PIPE).stdout
    names = re.search(r"^# Commands: (.*)$", script, re.M).group(1).split("; ")
    pages = []
    for name in ["", *names]:
        shown = subprocess.run([ksa, *name.split(), "--help"], check=True, text=True, stdout=subprocess.PIPE).stdout
        lines = [""] * (shown.count("\n") + 1)
        example = False
        for number, line in enumerate(shown.splitlines()):
            example = bool(re.match(r"  (ksa|mpirun|source) ", line)) or (example and lines[number - 1].endswith("\\"))
            lines[number] = line if example else ""
        if not any(lines):
            sys.exit(f"ksa {name} --help shows no example")
        pages.append((f"ksa {name} --help", "```bash\n" + "\n".join(lines[1:]) + "\n```\n"))
    return pages


def main():
    if not os.access(os.environ.get("KSA", ""), os.X_OK):
        sys.exit("run_docs.py: KSA is to be the path of the ksa program")
    names = sys.argv[1:] or ["README.md", "CONTRIBUTING.md"] + sorted(
        str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))
    pages = help_screens() if names == ["--help-screens"] else [(name, (ROOT / name).read_text()) for name in names]
    failures, used = 0, set()
    with tempfile.TemporaryDirectory() as parent:
        for page, text in pages:
            failures += run_page(page, text, parent, used)
    if not sys.argv[1:]:
        for _, reason in table.NOT_RUN:
            if reason not in used:
                print(f"tests/docs/table.py: no document has this any more: {reason}")
    print(f"{failures} block(s) failed" if failures else "all blocks ran or are excused")
    sys.exit(1 if failures else 0)


main()
