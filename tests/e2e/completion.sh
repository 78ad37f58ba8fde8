#!/usr/bin/env bash
# `ksa completion`: the script is sourced in a shell, asked as the shell asks it, and gives what the program declares.
source "$(dirname "$0")/lib.sh"
"$KSA" completion bash >"$work/bash"
"$KSA" completion zsh >"$work/zsh"
expect_exit 64 "$KSA" completion fish
expect_output "expected bash or zsh, got 'fish'"
mkdir -p "$work/in/runs/books" "$work/in/notes"
touch "$work/in/run.yaml" "$work/in/text.txt"

# complete_bash LINE: what bash offers at the end of the line, one a line.
complete_bash() {
  (cd "$work/in" && bash --norc -c '
    source "$1" || exit 1
    COMP_LINE=$2 COMP_POINT=${#2}
    _ksa
    printf "%s\n" "${COMPREPLY[@]}"' _ "$work/bash" "$1")
}

# complete_zsh LINE: the same in zsh, whose own completion is replaced by what prints.
complete_zsh() {
  (cd "$work/in" && "${ZSH:-zsh}" -f -c '
    compdef() { : }
    compset() { typed=${typed#*=} }
    compadd() { local -a all; [[ $1 == -S ]] && shift 2; [[ $1 == -a ]] && all=(${(P)2}); print -l -- ${(M)all:#${typed}*} }
    _files() { case "$1" in
      "") print -l -- ${typed}*(N) ;;
      -/) print -l -- ${typed}*(N/) ;;
      -g) local -a some; eval "some=(${2%"(-.)"}(N))"; print -l -- ${(M)some:#${typed}*} ${typed}*(N/) ;; esac }
    source "$1" || exit 1
    words=(${=2})
    [[ $2 == *" " ]] && words+=("")
    CURRENT=$#words typed=$words[-1]
    _ksa' _ "$work/zsh" "$1")
}

# offers SHELL LINE WORD...: exactly these, in any order.
offers() {
  local shell=$1 line=$2 got wanted
  shift 2
  got=$("complete_$shell" "$line" | sed '/^$/d' | LC_ALL=C sort)
  wanted=$(printf '%s\n' "$@" | sed '/^$/d' | LC_ALL=C sort)
  [ "$got" = "$wanted" ] || fail "$shell: '$line' gives <$(xargs <<<"$got")>, not <$(xargs <<<"$wanted")>"
}

# has SHELL LINE WORD: among others.
has() {
  local got
  got=$("complete_$1" "$2")  # whole: grep -q would close a pipe under whoever still writes
  grep -qxF -- "$3" <<<"$got" || fail "$1: '$2' does not give $3"
}

shells=(bash)
if command -v "${ZSH:-zsh}" >/dev/null; then shells+=(zsh); else echo "zsh is not here: its script is not tried"; fi
for shell in "${shells[@]}"; do
  offers "$shell" "ksa tr" train
  has "$shell" "ksa " generate
  offers "$shell" "ksa data v" verify
  has "$shell" "ksa data tokenize --" --validation-fraction
  has "$shell" "ksa data tokenize --" --help
  offers "$shell" "ksa data tokenize --documents " line file blank-line
  offers "$shell" "ksa data tokenize --documents=bl" blank-line
  offers "$shell" "ksa data tokenize --tokenizer by" byte
  offers "$shell" "ksa data tokenize --input t" text.txt
  offers "$shell" "ksa data tokenize --input text.txt t" text.txt
  offers "$shell" "ksa data tokenize --output n" notes
  offers "$shell" "ksa train ru" run.yaml runs
  offers "$shell" "ksa train --dry-run run." run.yaml
  offers "$shell" "ksa train --set optimizer.l" optimizer.lr=
  offers "$shell" "ksa train --set optimizer.lr=1 run." run.yaml
  offers "$shell" "ksa generate runs/books --device c" cpu cuda
  offers "$shell" "ksa generate runs/books --prompt t"
  offers "$shell" "ksa compare runs/books r" runs
  has "$shell" "ksa bench attention --paths mma " wgmma
done

# Every key of a configuration, and every option of every command, is known.
grep -q '^# Commands: ' "$work/bash" || fail "no list of commands"
"$KSA" check configs/test/ksa.yaml --no-data --print >"$work/printed"
grep -q '^schedule:' "$work/printed" || fail "no configuration is printed"
has bash "ksa ablate s.yaml --set schedule." schedule.warmup_steps=
[ "$(grep -c '^complete -F' "$work/bash")" -eq 1 ] || fail "the script of bash registers nothing"
