#!/usr/bin/env bash
# Installs what building and testing ksa needs, with apt, on Debian 12 and Ubuntu 24.04 (the names are the same in both).
# Does nothing when all is there. Without root and without sudo it prints the command to run, and stops. Where there is a
# CUDA compiler it also fetches the headers of cuDNN's graph API, with pip, into build/cudnn-frontend.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: launch/bootstrap.sh [--dev] [--list]
  --dev   also clang-format-14 and clang-tidy-14, which CI's format check and contributors use
  --list  print every package that would be asked for, and stop
EOF
}

cudnn_frontend_version=1.18.0
packages=(
  build-essential cmake ninja-build ccache pkgconf git
  libopenmpi-dev openmpi-bin       # ranks
  libopenblas-openmp-dev           # matrix products; the pthread build is slow inside parallel regions
  libhdf5-dev libxxhash-dev        # token shards, checkpoints
  libsentencepiece-dev             # tokenizers
  zlib1g-dev libzstd-dev           # compressed text
  libpcre2-dev libutf8proc-dev     # words and normal forms of byte-level tokenizers
  libyaml-cpp-dev libcli11-dev nlohmann-json3-dev libfmt-dev
  librandom123-dev                 # Philox
  libjs-chart.js                   # the plots of reports; its file goes into the program
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

# They are a part of a Python package, of which nothing else is taken. Never a reason to stop: without them full attention
# layers run on ksa's own kernels.
fetch_cudnn_headers() {
  local root wheel
  root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
  if ! command -v nvcc >/dev/null || [ -f "$root/build/cudnn-frontend/include/cudnn_frontend.h" ]; then
    return 0
  fi
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  if python3 -m pip --quiet --disable-pip-version-check download --no-deps --only-binary=:all: --python-version 3.12 \
      --implementation cp --platform "manylinux_2_28_$(uname -m)" --dest "$scratch" \
      "nvidia-cudnn-frontend==$cudnn_frontend_version" &&
    wheel=$(echo "$scratch"/*.whl) && python3 -m zipfile -e "$wheel" "$scratch/unpacked" &&
    mkdir -p "$root/build/cudnn-frontend" && cp -r "$scratch/unpacked/include" "$root/build/cudnn-frontend/"; then
    echo "bootstrap: fetched the headers of cuDNN's graph API $cudnn_frontend_version"
  else
    echo "bootstrap: could not fetch the headers of cuDNN's graph API (pip and a network are needed); a CUDA build will" \
      "run full attention layers on ksa's own kernels, unless cudnn_frontend.h is installed otherwise" >&2
  fi
}

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
  fetch_cudnn_headers
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
fetch_cudnn_headers
