#!/usr/bin/env bash
# launch/bootstrap.sh with dpkg-query, apt-get, id, sudo and python3 replaced by small programs that note how they were
# called. It runs in a tree of its own, where it finds the headers of cuDNN's graph API, or not.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
mkdir -p "$folder/bin" "$folder/tree/launch"
bootstrap=$folder/tree/launch/bootstrap.sh
headers=$folder/tree/build/cudnn-frontend/include
cp "$(dirname "${BASH_SOURCE[0]}")/../../launch/bootstrap.sh" "$bootstrap"
failures=0
all_packages=$("$bootstrap" --list)

program() {
  printf '#!/bin/bash\n%s\n' "$2" >"$folder/bin/$1"
  chmod +x "$folder/bin/$1"
}

# machine UID LACKING SUDO_STATUS: LACKING is the package that is not installed ("" for none), SUDO_STATUS what
# `sudo -n true` gives.
machine() {
  : >"$folder/calls"
  mkdir -p "$headers"
  touch "$headers/cudnn_frontend.h"
  program nvcc "exit 0"
  program id "echo $1"
  program dpkg-query "grep -vx '${2:-none}' <<<'$all_packages' | sed 's/^/installed /'; echo 'config-files ${2:-none}'; exit 1"
  program apt-get "echo \"apt-get \$*\" >>'$folder/calls'; case \"\$*\" in *update*) exit \${UPDATE_STATUS:-0} ;; esac
    exit \${INSTALL_STATUS:-0}"
  program sudo "echo \"sudo \$*\" >>'$folder/calls'; [ \"\$1\" = -n ] && exit $3; exec \"\$@\""
}

# expect NAME STATUS OUTPUT_TEXT CALLS_TEXT: runs bootstrap; an empty text stands for no output or no call at all.
expect() {
  local output status=0 calls text_fine=false calls_fine=false
  output=$(PATH="$folder/bin:$PATH" "$bootstrap" 2>&1 </dev/null) || status=$?
  calls=$(grep -v '^sudo -n' "$folder/calls" || true)
  if [ -z "$3" ]; then [ -z "$output" ] && text_fine=true; else grep -qF -- "$3" <<<"$output" && text_fine=true; fi
  if [ -z "$4" ]; then [ -z "$calls" ] && calls_fine=true; else grep -qxF -- "$4" <<<"$calls" && calls_fine=true; fi
  if [ "$status" -eq "$2" ] && $text_fine && $calls_fine; then
    echo "ok: $1"
  else
    printf 'FAILED: %s: status %s (expected %s)\noutput:\n%s\ncalls:\n%s\n' "$1" "$status" "$2" "$output" "$calls"
    failures=$((failures + 1))
  fi
}

install='apt-get --quiet install --yes --no-install-recommends libhdf5-dev'

machine 1000 "" 1
expect "nothing missing: silent, no apt, not even as a plain user" 0 "" ""
machine 1000 libhdf5-dev 1
expect "a plain user: the exact list and the command, exit 1" 1 \
  "apt-get update && apt-get install --yes --no-install-recommends libhdf5-dev" ""
machine 0 libhdf5-dev 1
expect "root: installs exactly what is missing" 0 "missing packages: libhdf5-dev" "$install"
machine 1000 libhdf5-dev 0
expect "sudo without a password: the same through sudo" 0 "missing packages: libhdf5-dev" \
  "sudo env DEBIAN_FRONTEND=noninteractive $install"
machine 0 libhdf5-dev 1
UPDATE_STATUS=100 expect "no network, but the package at hand: installed" 0 "apt-get update failed" "$install"
machine 0 libhdf5-dev 1
INSTALL_STATUS=100 expect "apt cannot install: exit 1 and the names" 1 "could not install: libhdf5-dev" "$install"

machine 1000 "" 1
rm -r "$headers"
program python3 "exit 1"
expect "no pip or no network: says so, and goes on" 0 "could not fetch the headers of cuDNN's graph API" ""
machine 1000 "" 1
rm -r "$headers"
program python3 "case \"\$*\" in
  *'pip '*download*nvidia-cudnn-frontend==*) echo download >>'$folder/calls'; touch \"\$(sed 's/.*--dest \\([^ ]*\\).*/\\1/' <<<\"\$*\")/a.whl\" ;;
  *zipfile*) mkdir -p \"\$5/include\" \"\$5/cudnn\"; touch \"\$5/include/cudnn_frontend.h\" ;;
esac"
expect "a CUDA compiler: fetches cuDNN's headers" 0 "fetched the headers of cuDNN's graph API" "download"
if [ ! -f "$headers/cudnn_frontend.h" ] || [ -e "$headers/../cudnn" ]; then
  echo "FAILED: the headers, and they alone, are in build/cudnn-frontend"
  failures=$((failures + 1))
fi

exit $((failures > 0))
