#!/usr/bin/env bash
# Installs what building and testing ksa needs, with apt, on Debian 12 and Ubuntu 24.04 (the names are the same in both).
# Does nothing when all is there. Without root and without sudo it prints the command to run, and stops.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: launch/bootstrap.sh [--dev] [--list]
  --dev   also clang-format-14 and clang-tidy-14, which CI's format check and contributors use
  --list  print every package that would be asked for, and stop
EOF
}

packages=(
  build-essential cmake ninja-build ccache pkgconf git
  libopenmpi-dev openmpi-bin       # ranks
  libopenblas-openmp-dev           # matrix products; the pthread build is slow inside parallel regions
  libhdf5-dev libxxhash-dev        # token shards, checkpoints
  libsentencepiece-dev             # tokenizers
  libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libfmt-dev
  librandom123-dev                 # Philox
  libgtest-dev
)
list_only=false
for argument in "$@"; do
  case "$argument" in
    --dev) packages+=(clang-format-14 clang-tidy-14) ;;
    --list) list_only=true ;;
    -h|--help) usage; exit 0 ;;
    *) echo "bootstrap: unknown argument '$argument'" >&2; usage >&2; exit 64 ;;
  esac
done
if $list_only; then
  printf '%s\n' "${packages[@]}"
  exit 0
fi

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
  echo "bootstrap: this script knows apt only (Debian 12, Ubuntu 24.04). ksa needs these packages or their like:" >&2
  printf '  %s\n' "${packages[@]}" >&2
  exit 1
fi

installed=$(dpkg-query --show --showformat '${db:Status-Status} ${Package}\n' "${packages[@]}" 2>/dev/null || true)
missing=()
for package in "${packages[@]}"; do
  grep -qx "installed $package" <<<"$installed" || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  exit 0
fi

echo "bootstrap: missing packages: ${missing[*]}"
as_root=()
if [ "$(id -u)" -ne 0 ]; then
  # sudo may ask for a password only where there is somebody to type it.
  if command -v sudo >/dev/null && { sudo -n true 2>/dev/null || { [ -t 0 ] && [ -t 2 ]; }; }; then
    as_root=(sudo)
  else
    echo "bootstrap: neither root nor sudo here; ask an administrator to run, then start again:" >&2
    echo "  apt-get update && apt-get install --yes --no-install-recommends ${missing[*]}" >&2
    exit 1
  fi
fi

apt() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get --quiet "$@" </dev/null
}
if ! apt update; then
  echo "bootstrap: apt-get update failed (no network?); trying with the package lists that are here" >&2
fi
if ! apt install --yes --no-install-recommends "${missing[@]}"; then
  echo "bootstrap: apt-get could not install: ${missing[*]}" >&2
  echo "bootstrap: on Ubuntu the 'universe' component has to be enabled; apt's own message is above" >&2
  exit 1
fi
