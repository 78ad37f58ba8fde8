#!/usr/bin/env bash
# lint.sh CHECK ROOT [COMPILER FLAGS...]: checks the tree at ROOT; prints `path:line: what` for each finding.
# Exit status: 0 clean, 1 findings, 77 the check's tool is not installed (ctest shows the test as skipped).
set -euo pipefail
shopt -s lastpipe

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
check=${1:?"usage: lint.sh includes|length|words|scripts|links|format|headers ROOT [COMPILER FLAGS...]"}
cd "${2:?"lint.sh: the root of the tree is missing"}"
shift 2

# list PATTERN...: the tree's files whose names match, one a line. Build and run folders are not part of it.
list() {
  local names=() pattern folders=()
  for pattern in "$@"; do
    names+=(-o -name "$pattern")
  done
  for folder in kernels parallel data model trainer tests configs launch docs cmake .ci; do
    [ -d "$folder" ] && folders+=("$folder")
  done
  { find . -maxdepth 1 -type f \( "${names[@]:1}" \) -printf '%P\n'
    find "${folders[@]}" -type f \( "${names[@]:1}" \); } | LC_ALL=C sort
}

readarray -t sources < <(list '*.cc' '*.h' '*.cu' '*.cuh')

check_includes() {
  awk '
    FILENAME ~ /layers\.txt$/ {
      if ($0 ~ /^#/ || NF == 0) next
      folder = $1; sub(/:$/, "", folder); $1 = ""; allowed[folder] = $0; next
    }
    FILENAME ~ /confined\.txt$/ {
      if ($0 ~ /^#/ || NF == 0) next
      header[++rules] = $1; place[rules] = $2; next
    }
    FNR == 1 {
      layer = FILENAME
      while (layer != "" && !(layer in allowed)) { if (!sub(/\/[^\/]*$/, "", layer)) layer = "" }
      if (layer == "") { printf "%s:1: its folder is not in tests/lint/layers.txt\n", FILENAME; bad = 1 }
    }
    !/^[ \t]*#[ \t]*include[ \t]*["<]/ { next }
    {
      name = $0; sub(/^[^"<]*["<]/, "", name); sub(/[">].*$/, "", name)
      if ($0 ~ /include[ \t]*"/) {
        if ((getline line < name) < 0) {
          printf "%s:%d: \"%s\" is no path from the root of the tree\n", FILENAME, FNR, name; bad = 1; next
        }
        close(name)
        count = split(allowed[layer], folders, " "); fine = 0
        for (i = 1; i <= count; i++) if (index(name, folders[i] "/") == 1) fine = 1
        if (!fine) { printf "%s:%d: %s must not include %s\n", FILENAME, FNR, layer, name; bad = 1 }
      } else {
        for (i = 1; i <= rules; i++) if (name ~ header[i] && FILENAME !~ place[i]) {
          printf "%s:%d: <%s> is allowed only in files that match %s\n", FILENAME, FNR, name, place[i]; bad = 1
        }
      }
    }
    END { exit bad }
  ' "$here/layers.txt" "$here/confined.txt" "${sources[@]}"
}

check_length() {
  list '*.cc' '*.h' '*.cu' '*.cuh' '*.sh' '*.py' '*.cmake' CMakeLists.txt | xargs -r awk '
    FNR == 601 { printf "%s:601: over 600 lines: this is probably two files\n", FILENAME; bad = 1 }
    END { exit bad }' || return 1
}

check_words() {
  local expression found=0
  list '*' | grep -v -e '^tests/lint/words.txt$' -e '^\.git$' | mapfile -t files
  while read -r expression; do
    if [ -n "$expression" ] && [ "${expression:0:1}" != "#" ]; then
      grep --binary-files=without-match -nHE -e "$expression" "${files[@]}" && found=1
    fi
  done <"$here/words.txt"
  return $found
}

check_scripts() {
  local script found=0
  list '*.sh' '*.sbatch' run | mapfile -t scripts
  for script in "${scripts[@]}"; do
    bash -n "$script" || found=1
    [ -x "$script" ] || { echo "$script:1: has no execute permission"; found=1; }
  done
  return $found
}

# Version 14, for others lay the same code out differently.
check_format() {
  local tool
  tool=$(command -v clang-format-14) || { echo "clang-format-14 is not installed: launch/bootstrap.sh --dev"; exit 77; }
  "$tool" --dry-run "${sources[@]}" 2>&1 |
    sed -n 's/^\([^:]*:[0-9]*\):[0-9]*: warning: .*/\1: clang-format-14 -i would change this/p' | LC_ALL=C sort -u |
    awk '{ print } END { exit NR > 0 }'
}

# Relative links of the documentation lead to files that are there.
check_links() {
  local page target found=0
  list '*.md' | while read -r page; do
    { grep -noE '\]\([^)#[:space:]]+' "$page" || true; } | sed 's/:](/ /' | while read -r line target; do
      [[ "$target" =~ ^[a-z]+: ]] || [ -e "$(dirname "$page")/$target" ] || { echo "$page:$line: no file $target"; found=1; }
    done
  done
  return $found
}

# Every header compiles on its own. One that is the first include of its .cc has already shown that in the build.
check_headers() {
  local header
  list '*.h' | while read -r header; do
    grep -sm 1 '^#include' "${header%.h}.cc" | grep -qxF "#include \"$header\"" || printf '%s\n' "$header"
  done | KSA_COMPILE="$*" xargs -r -P "$(nproc)" -I '{}' bash -c '
    printf "#include \"%s\"\n" "$1" | $KSA_COMPILE -x c++ -fsyntax-only -I. - || { echo "$1:1: does not compile alone"; exit 1; }
  ' header '{}' || return 1
}

case "$check" in
  includes|length|words|scripts|links|format|headers) "check_$check" "$@" ;;
  *) echo "lint.sh: unknown check '$check'" >&2; exit 64 ;;
esac
