#!/usr/bin/env bash
# `ksa doctor`: a good machine, and one fault after the other injected; each is found, named, and comes with its cure.
source "$(dirname "$0")/lib.sh"

# says STATUS NAME TEXT: of the last doctor's answers in $work/health.json, with a cure where there is one to give.
says() {
  python3 - "$work/health.json" "$@" <<'PY' || { cat "$work/output" >&2; fail "doctor does not say $*"; }
import json, sys
path, status, name, text = sys.argv[1:]
checks = json.load(open(path))["checks"]
assert all(set(check) == {"name", "status", "detail", "cure"} for check in checks), checks
assert all(check["cure"] for check in checks if check["status"] == "fault"), checks
found = [check for check in checks if check["name"] == name]
sys.exit(0 if any(check["status"] == status and text in check["detail"] + check["cure"] for check in found) else 1)
PY
}
mkdir "$work/runs"
doctor() { "$KSA" doctor --folder "$work/runs" --json "$work/health.json"; }
# limited ULIMIT...: doctor in a shell with this limit.
limited() { (ulimit "$@" && doctor); }

expect_exit 0 doctor
says good MPI "two ranks exchange data"
says good HDF5 "written and read back"
says good limits "open files"
expect_output "replacing a file"  # some file systems exchange no folders, which is a warning
expect_output "0 faults, "
[ -z "$(ls -A "$work/runs")" ] || fail "doctor left something behind"

# A folder that is missing is made, and is gone again.
expect_exit 0 "$KSA" doctor --folder "$work/new/runs"
[ ! -e "$work/new" ] || fail "doctor left a folder"

expect_exit 69 limited -n 40
says fault limits "ulimit -n 1024"
expect_exit 69 limited -v 600000
says fault limits "ulimit -v unlimited"
expect_exit 69 limited -f 1000
says fault limits "ulimit -f unlimited"
expect_exit 69 limited -s 512
says fault limits "ulimit -s 8192"
expect_exit 0 limited -n 512
says warning limits "ulimit -n 1024"

# An MPI without threads; none at all; root without its permission.
LD_PRELOAD=$SINGLE_THREAD expect_exit 69 doctor
says fault MPI "this MPI allows no second thread"
mkdir "$work/bin"
for tool in sh env python3 cat; do ln -s "$(command -v "$tool")" "$work/bin/$tool"; done
PATH=$work/bin expect_exit 0 doctor
says warning MPI "no mpirun in PATH"
if [ "$(id -u)" -eq 0 ]; then
  expect_exit 0 env -u OMPI_ALLOW_RUN_AS_ROOT -u OMPI_ALLOW_RUN_AS_ROOT_CONFIRM "$KSA" doctor --json "$work/health.json" --folder "$work/runs"
  says warning MPI "OMPI_ALLOW_RUN_AS_ROOT=1"
fi

# Folders: no permission for anybody, a file in its place, no flock, full.
expect_exit 69 "$KSA" doctor --folder /proc --json "$work/health.json"
says fault disk "/proc"
says fault HDF5 "/proc"
touch "$work/file"
expect_exit 69 "$KSA" doctor --folder "$work/file" --json "$work/health.json"
says fault disk "$work/file"
LD_PRELOAD=$NO_FLOCK expect_exit 0 doctor
says warning flock "No locks available"

# What needs a mount of its own.
in_mounts() { unshare --mount --propagation private bash -euc "$1"; }
export KSA work
if in_mounts 'mount -t tmpfs -o size=4m tmpfs "$work/runs"' 2>/dev/null; then
  expect_exit 69 in_mounts 'mount -t tmpfs -o size=4m tmpfs /dev/shm
    "$KSA" doctor --folder "$work/runs" --json "$work/health.json"'
  says fault "shared memory" "--shm-size"
  expect_exit 69 in_mounts 'mount -t tmpfs -o size=4m tmpfs "$work/runs"
    "$KSA" doctor --folder "$work/runs" --json "$work/health.json"'
  says fault disk "make room"
  says fault "file system" "No space left on device"
  expect_exit 69 in_mounts 'mount -t tmpfs -o ro tmpfs "$work/runs"
    "$KSA" doctor --folder "$work/runs" --json "$work/health.json"'
  says fault disk "Read-only file system"
  expect_exit 0 in_mounts 'mount -t tmpfs -o size=2g tmpfs "$work/runs"
    "$KSA" doctor --folder "$work/runs" --json "$work/health.json"'
  says warning disk "is gone with the machine"
else
  echo "mounts of its own are forbidden here: /dev/shm, full and read-only disks are left out"
fi

# Ranks: what one of them lacks is named with it; a launcher that MPI knows nothing of.
cat >"$work/rank.sh" <<'RANK'
#!/usr/bin/env bash
if [ "$OMPI_COMM_WORLD_RANK" -eq 1 ]; then ulimit -f 1000; fi
exec "$KSA" doctor --folder "$work/runs" --json "$work/health.json"
RANK
chmod +x "$work/rank.sh"
expect_exit 69 mpirun --oversubscribe --bind-to none -np 2 "$work/rank.sh"
says fault limits "rank 1 on $(hostname)"
says good MPI "2 ranks, 2 of them on this host"
expect_exit 0 mpirun --oversubscribe --bind-to none -np 2 "$KSA" doctor --folder "$work/runs"
SLURM_STEP_NUM_TASKS=4 expect_exit 69 doctor
says fault MPI "SLURM_STEP_NUM_TASKS=4 but MPI sees one rank"
expect_exit 73 "$KSA" doctor --json "$work/absent/health.json"
