#!/usr/bin/env bash
# lint_test.sh COMPILER...: the lint's own test. Makes a small clean tree in a temporary folder, in which every check must
# pass, and then, one at a time, trees with one fault, each of which its check must find and name.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
compiler=("$@")
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

make_clean_tree() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree"/{kernels/core,kernels/gemm,parallel/comm,data/shards,model/ops,model/ksa,trainer/loop,launch,tests}
  printf '#pragma once\n\n#include <cstdint>\n\nint64_t Twice(int64_t value);\n' >"$tree/kernels/core/twice.h"
  printf '#include "kernels/core/twice.h"\n\nint64_t Twice(int64_t value) {\n  return 2 * value;\n}\n' \
    >"$tree/kernels/core/twice.cc"
  printf '#include <mpi.h>\n\n#include "kernels/core/twice.h"\n' >"$tree/parallel/comm/mpi_comm.cc"
  printf '#pragma once\n\n#include "kernels/core/twice.h"\n' >"$tree/kernels/gemm/gemm.h"
  cp "$tree/kernels/gemm/gemm.h" "$tree/model/ops/linear.h"
  printf '#!/usr/bin/env bash\necho /tmp-less "$HOME/work/"\n' >"$tree/launch/good.sh"
  chmod +x "$tree/launch/good.sh"
  mkdir -p "$tree/docs"
  printf 'No links.\n' >"$tree/docs/plain.md"
  printf '[plain](plain.md), [part](plain.md#part), [far](https://example.org/x)\n' >"$tree/docs/links.md"
  cp "$here/../../.clang-format" "$tree/" 2>/dev/null || true
}

# verdict NAME CHECK EXPECTED_STATUS EXPECTED_TEXT
verdict() {
  local output status=0
  output=$("$here/lint.sh" "$2" "$tree" "${compiler[@]}" 2>&1) || status=$?
  if [ "$status" -eq 77 ]; then
    echo "skipped: $1: $output"
  elif [ "$status" -eq "$3" ] && grep -qF -- "$4" <<<"$output"; then
    echo "ok: $1"
  else
    printf 'FAILED: %s: status %s (expected %s), expected the text "%s" in:\n%s\n' "$1" "$status" "$3" "$4" "$output"
    failures=$((failures + 1))
  fi
}

# fault NAME CHECK FILE CONTENT EXPECTED_TEXT: a clean tree with one file put in its place.
fault() {
  make_clean_tree
  mkdir -p "$(dirname "$tree/$3")"
  printf '%b' "$4" >"$tree/$3"
  verdict "$1" "$2" 1 "$5"
}

make_clean_tree
for check in includes length words scripts links format headers; do
  verdict "clean tree, $check" "$check" 0 ""
done

fault "upward include" includes kernels/gemm/a.cc '#include "model/ops/linear.h"\n' \
  'kernels/gemm/a.cc:1: kernels must not include model/ops/linear.h'
fault "core includes a family" includes kernels/core/a.h '\n#include "kernels/gemm/gemm.h"\n' \
  'kernels/core/a.h:2: kernels/core must not include kernels/gemm/gemm.h'
fault "data includes the model" includes data/shards/a.cc '#include "model/ops/linear.h"\n' 'data must not include'
fault "relative include" includes kernels/core/a.cc '#include "twice.h"\n' '"twice.h" is no path from the root of the tree'
fault "MPI outside its place" includes trainer/loop/a.cc '#  include <mpi.h>\n' 'a.cc:1: <mpi.h> is allowed only in'
fault "JSON in a header" includes trainer/loop/a.h '#include <nlohmann/json.hpp>\n' '<nlohmann/json.hpp> is allowed only'
fault "unknown folder" includes extra.cc 'int a;\n' 'extra.cc:1: its folder is not in tests/lint/layers.txt'
fault "601 lines" length data/shards/a.cc "$(printf '//\\n%.0s' {1..601})" 'a.cc:601: over 600 lines'
fault "unfinished mark" words trainer/loop/a.cc '// TO''DO later\n' 'trainer/loop/a.cc:1:'
fault "path of one machine" words docs/page.md 'see `/ro''ot/notes`\n' 'docs/page.md:1:'
fault "path at the start of a line" words docs/page.md '/ho''me/notes\n' 'docs/page.md:1:'
fault "script with bad syntax" scripts launch/bad.sh 'if true; then\n' 'syntax error'
fault "script that cannot be run" scripts launch/bad.sh 'true\n' 'has no execute permission'
fault "dead link" links docs/page.md '[good](page.md) and\n[bad](gone.md#part)\n' \
  'docs/page.md:2: no file gone.md'
fault "unformatted source" format kernels/core/a.cc 'int  a;\n' 'kernels/core/a.cc:1: clang-format-14'
fault "header that needs another" headers kernels/core/a.h '#pragma once\n\nint64_t Thrice();\n' \
  'kernels/core/a.h:1: does not compile alone'

make_clean_tree
printf '#include <vector>\n#include "kernels/core/a.h"\n' >"$tree/kernels/core/a.cc"
printf '#pragma once\n\nstd::vector<int> All();\n' >"$tree/kernels/core/a.h"
verdict "header that hides behind its source's other includes" headers 1 'kernels/core/a.h:1: does not compile alone'

exit $((failures > 0))
