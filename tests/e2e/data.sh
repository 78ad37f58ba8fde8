#!/usr/bin/env bash
# Data through the program: what goes in, what is refused at which door and with which code, what may not be lost.
source "$(dirname "$0")/lib.sh"
make_corpus
tokenize() { "$KSA" data tokenize --tokenizer byte "$@"; }
cd "$work"

# as_nobody COMMAND...: without root's rights, which would read anything. The program must lie where nobody may run it.
as_nobody() {
  if [ "$(id -u)" -eq 0 ]; then
    setpriv --reuid=65534 --regid=65534 --clear-groups "$@"
  else
    "$@"
  fi
}
chmod 755 "$work"

# Folders as input.
mkdir -p in/sub
printf 'top\n' >in/top.txt
printf 'nested\n' >in/sub/n.txt
printf 'junk\n' >in/.hidden
printf 'old\n' >in/top.txt~
expect_exit 0 tokenize --input in --output nested
expect_output "of 2 files (2 left out"
expect_exit 0 "$KSA" data inspect nested
expect_output "2 documents"
printf '{"text": "hi", "score": NaN}\n{"title": "\\ud83d", "text": "ok"}\n' >in/sub/a.JSONL
expect_exit 64 tokenize --input in --output never
expect_output "a.JSONL: give --jsonl-field"
expect_exit 64 "$KSA" data train-tokenizer --input in --output never.model
expect_exit 0 tokenize --input in/sub/a.JSONL --jsonl-field text --output json
printf '{"text": "a\\ud83d b"}\n' >half.jsonl
expect_exit 65 tokenize --input half.jsonl --jsonl-field text --output half
expect_output 'half a character'
expect_exit 0 tokenize --input half.jsonl --jsonl-field text --output half --invalid-utf8 replace
printf '{"text": "a"}\0garbage{{{\n' >nul.jsonl
expect_exit 65 tokenize --input nul.jsonl --jsonl-field text --output nul
expect_exit 66 tokenize --input <(cat text.txt) --output pipe
expect_output "regular files"
expect_exit 66 tokenize --input "$(printf 'x%.0s' $(seq 300))" --output long
ln -s loop loop
expect_exit 66 tokenize --input loop --output looped

# What is no text is called by its name, with the way to its text.
python3 -c "import lzma; open('text.txt.xz', 'wb').write(lzma.compress(open('text.txt', 'rb').read()))"
expect_exit 65 tokenize --input text.txt.xz --output never
expect_output "text.txt.xz: compressed (xz), not text; unpack it first: xz -dk text.txt.xz"
mkdir mixed
cp text.txt text.txt.xz mixed
expect_exit 65 tokenize --input mixed --output never
expect_exit 65 "$KSA" data train-tokenizer --input text.txt.xz --output never.model
expect_exit 65 tokenize --input nested/nested-00000-of-00001.h5 --output never
expect_output "an HDF5 file, perhaps a token shard already"
expect_exit 66 "$KSA" data inspect text.txt.xz
expect_output "text.txt.xz: no folder of token shards (a regular file is there); \`ksa data tokenize"
[ ! -e never ] && [ ! -e never.model ] || fail "a refused input left something"

# Tokens without a tokenizer.
python3 -c "import struct; open('$work/ids.bin', 'wb').write(struct.pack('<3001H', *([i * i % 200 for i in range(3000)] + [200])))"
expect_exit 0 "$KSA" data import --input ids.bin --output ids --vocab-size 201 --eos-id 200 --name numbers
expect_output "generate"
(cd "$OLDPWD" && expect_exit 0 train spelled configs/test/ksa.yaml --set "data.train=[{path: $work/ids}]" --set data.validation=[])
expect_exit 65 "$KSA" generate spelled --prompt "Once"
expect_output "spelled: its data was imported without a tokenizer ('numbers', 201 tokens)"
expect_exit 0 "$KSA" eval spelled --data ids

# Outputs: an empty folder, a link to one, the working directory; what is known at the start is said at the start.
mkdir empty here
expect_exit 0 tokenize --input text.txt --output empty
expect_exit 0 "$KSA" data verify empty
mkdir real
ln -s real link
expect_exit 0 tokenize --input text.txt --output link
expect_exit 0 "$KSA" data verify real
(cd here && expect_exit 0 tokenize --input ../text.txt --output . && expect_exit 0 "$KSA" data verify .)
expect_exit 73 tokenize --input text.txt --output empty
expect_exit 73 tokenize --input text.txt --output $'caf\xe9'
expect_exit 73 tokenize --input text.txt --output text.txt/out
ln -s nowhere dangling
expect_exit 73 tokenize --input text.txt --output dangling
trap 'umount "$work/mounted" "$work/small" 2>/dev/null || true; rm -rf "$work"' EXIT
if [ "$(id -u)" -eq 0 ] && mkdir mounted && mount -t tmpfs none mounted 2>/dev/null; then
  expect_exit 0 tokenize --input text.txt --output mounted
  expect_exit 0 "$KSA" data verify mounted
  umount mounted
  mkdir small
  mount -t tmpfs -o nr_inodes=2 none small
  expect_exit 74 tokenize --input text.txt --output small/out
  expect_output "No space left on device"
  mount -o remount,ro none small
  expect_exit 73 tokenize --input text.txt --output small/out
  expect_output "Read-only file system"
  umount small
  head -c 300000 text.txt >known.txt  # 600 kB of tokens
  for size in 100k 600k; do           # too small for half of it; too small for all of it: said before anything is written
    mount -t tmpfs -o size=$size none small
    expect_exit 74 tokenize --input known.txt --output small/out
    expect_output "Make room"
    [ -z "$(ls -A small)" ] || fail "something was left on the small disk"
    umount small
  done
fi

# Files that may not be read are neither damaged nor an internal error.
mkdir secret
cp -r nested secret/sh
cp text.txt secret
forbidden=$([ "$(id -u)" -eq 0 ] && echo 700 || echo 000)  # what nobody, or who runs this, may not read
chmod "$forbidden" secret
if as_nobody "$KSA" --version >/dev/null 2>&1; then
  expect_exit 74 as_nobody "$KSA" data verify secret/sh
  expect_exit 74 as_nobody "$KSA" data inspect secret/sh
  expect_exit 74 as_nobody "$KSA" data tokenize --input secret/text.txt --output o --tokenizer byte
  expect_exit 74 as_nobody "$KSA" data tokenize --input secret --output o --tokenizer byte
  expect_exit 74 as_nobody "$KSA" data tokenize --input text.txt --output o --tokenizer secret/x.model
  expect_exit 73 as_nobody "$KSA" data tokenize --input text.txt --output secret/o --tokenizer byte
  expect_exit 73 as_nobody "$KSA" data train-tokenizer --input text.txt --output secret/m.model
  expect_exit 74 as_nobody "$KSA" data import --input secret/text.txt --output o --tokenizer byte
  chmod "$forbidden" nested/*.h5
  expect_exit 74 as_nobody "$KSA" data verify nested
  expect_output "Permission denied"
  chmod 644 nested/*.h5
else
  echo "permissions are not tested: $KSA may not be run by others"
fi
chmod 700 secret
rm nested/index.json
mkfifo nested/index.json
expect_exit 66 timeout 60 "$KSA" data verify nested
expect_output "a pipe"

# Token files of others.
python3 - <<'PY'
import struct
h = [20240801, 7, 300] + [0] * 253
open('llama3.bin', 'wb').write(struct.pack('<256i300I', *h, *range(100000, 100300)))
open('eval.bin', 'wb').write(struct.pack('<256i300H', 20240522, 1, *[0] * 254, *range(300)))
open('wide.bin', 'wb').write(struct.pack('<300I', *range(300)))
PY
expect_exit 0 "$KSA" data import --input llama3.bin --output l3 --vocab-size 128256 --eos-id 100299
expect_exit 0 "$KSA" data inspect l3 --tokens 2
expect_output "100000 100001"
expect_exit 65 "$KSA" data import --input eval.bin --output never --vocab-size 50257 --eos-id 1
expect_exit 65 "$KSA" data import --input wide.bin --output never --vocab-size 50257 --eos-id 1
expect_exit 65 "$KSA" data import --input text.txt --output never --vocab-size 128256 --eos-id 1
[ ! -e never ] || fail "a refused import left something"

# One tokenizer at every door.
cd "$OLDPWD"
train run configs/test/ksa.yaml --set training.hard_stop=2 >/dev/null
python3 -c "open('$work/other.bin', 'wb').write(bytes([65, 0, 66, 0]) * 500)"
expect_exit 0 "$KSA" data import --input "$work/other.bin" --output "$work/other" --vocab-size 257 --eos-id 256
expect_output "end-of-document token 256 is nowhere in the input"
expect_exit 0 "$KSA" eval "$work/run" --data "$work/corpus/validation" --samples 1
expect_exit 65 "$KSA" eval "$work/run" --data "$work/other" --samples 1
expect_output "mean something else"
generate() { "$KSA" generate "$@" --max-tokens 2; }
expect_exit 0 generate "$work/run/checkpoints/step_00000002/." --prompt "The"
(cd "$work/run/checkpoints/step_00000002" && expect_exit 0 generate . --prompt "The")
expect_exit 0 generate "$work/run" --prompt= --seed 3
expect_exit 65 generate "$work/run" --prompt $'\xff'
for value in nan inf -1 0,5; do
  expect_exit 64 generate "$work/run" --prompt a --temperature "$value"
  expect_output "expected a number, at least 0, got '$value'"
done
expect_exit 73 "$KSA" eval "$work/run" --data "$work/corpus/validation" --samples 1 --json "$work/nowhere/x.json"
