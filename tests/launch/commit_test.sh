#!/usr/bin/env bash
# cmake/KsaCommit.cmake: the commit of a work tree, changed or not, of an archive, and of a tree that has none. SOURCE: the
# source tree. A file that would not change is not touched.
set -euo pipefail
: "${SOURCE:?the source tree}"
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 GIT_CEILING_DIRECTORIES=$folder/..
unset GIT_DIR GIT_WORK_TREE
git=(git -c user.name=t -c user.email=t@t)
failures=0

# expect NAME TREE COMMIT
expect() {
  cmake -D SOURCE="$2" -D OUTPUT="$folder/commit.cc" -P "$SOURCE/cmake/KsaCommit.cmake"
  local got
  got=$(sed -n 's/^const char.*kBuiltCommit = "\(.*\)";$/\1/p' "$folder/commit.cc")
  [ "$got" = "$3" ] || { echo "FAILED: $1: got '$got' instead of '$3'" >&2; failures=$((failures + 1)); }
}

tree=$folder/tree
mkdir -p "$tree/cmake"
cp "$SOURCE/.gitattributes" "$tree/"
cp "$SOURCE/cmake/archived_commit.txt" "$tree/cmake/"
expect "no git" "$tree" ""
(cd "$tree" && "${git[@]}" init -q && "${git[@]}" add . && "${git[@]}" commit -qm one && "${git[@]}" tag a_tag)
commit=$("${git[@]}" -C "$tree" rev-parse --short=12 HEAD)
expect "a commit" "$tree" "$commit"
touch -d '2001-01-01' "$folder/commit.cc"
expect "the same again" "$tree" "$commit"
[ "$(stat -c %Y "$folder/commit.cc")" -lt 1000000000 ] || { echo "FAILED: a file without a change was written" >&2; failures=1; }
echo more >"$tree/untracked"
expect "a new file that git does not know" "$tree" "$commit"
echo "# more" >>"$tree/.gitattributes"
expect "a change" "$tree" "$commit-changed"

# An archive knows its commit, also where it is unpacked inside of another work tree.
mkdir -p "$tree/vendor"
"${git[@]}" -C "$tree" archive HEAD | tar -x -C "$tree/vendor"
short=$("${git[@]}" -C "$tree" rev-parse --short HEAD)
expect "an archive" "$tree/vendor" "$short"
rm "$tree/vendor/cmake/archived_commit.txt"
expect "a folder of another work tree" "$tree/vendor" ""
exit "$((failures > 0))"
