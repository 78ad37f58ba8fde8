#!/usr/bin/env bash
# Installs what is missing, builds, and runs every test. The last lines are ctest's summary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  cat <<'EOF'
usage: launch/test.sh [--preset NAME | --asan] [--werror] [--build-only] [-- CTEST ARGUMENTS...]
  --preset NAME  release (default), debug, asan, cuda or cuda-ci (Hopper alone); built in build/NAME
  --asan         the same as --preset asan: AddressSanitizer and UndefinedBehaviorSanitizer
  --werror       warnings are errors, as in CI
  --build-only   stop before the tests
examples:
  launch/test.sh
  launch/test.sh --asan -- -L unit
  launch/test.sh -- -R attention --verbose
  launch/test.sh --preset cuda -- -L gpu      the tests that need a GPU
EOF
}

preset=release
werror=OFF
build_only=false
while [ $# -gt 0 ]; do
  case "$1" in
    --preset) preset=${2:?"--preset needs a name"}; shift ;;
    --asan) preset=asan ;;
    --werror) werror=ON ;;
    --build-only) build_only=true ;;
    --) shift; break ;;
    -h|--help) usage; exit 0 ;;
    *) echo "test: unknown argument '$1'" >&2; usage >&2; exit 64 ;;
  esac
  shift
done

jobs=$(nproc)
launch/bootstrap.sh
cmake --preset "$preset" -DKSA_WERROR=$werror
cmake --build --preset "$preset" --parallel "$jobs"
if $build_only; then
  exit 0
fi
# Tests run side by side: OpenMP threads that spin while they wait would take the cores from each other.
export OMP_WAIT_POLICY=passive
ctest --preset "$preset" --parallel "$jobs" "$@"
