#!/usr/bin/env bash
# Starts a command on many ranks with OpenMPI's mpirun and the settings that matter, which it prints. SIGUSR1 and SIGTERM
# reach the ranks as SIGUSR1: ksa saves a checkpoint and ends with 85. The exit code is that of the first rank that failed,
# or 75 when a host was lost.
set -euo pipefail

usage() {
  cat <<'EOF'
usage: launch/mpirun.sh [OPTIONS] [--] COMMAND [ARGUMENTS...]
  --ranks N          ranks in all (default: the slots of the host file; without one, the GPUs of this host)
  --host-file FILE   hosts, one a line as OpenMPI reads them: "node1 slots=8"
  --device cpu|cuda  what ranks compute on (default: cuda where nvidia-smi lists a GPU)
  --cores N          bind every rank to N cores of its own (default: ranks of a host share its cores evenly)
  --interface NAME   the network that MPI and NCCL use between hosts, as "ib0" or "10.0.0.0/8"
  --mca KEY=VALUE    one more setting of OpenMPI; may be repeated
  --print            print the command and start nothing
examples:
  launch/mpirun.sh --ranks 4 --device cpu ksa train config.yaml
  launch/mpirun.sh --host-file hosts --interface ib0 ksa train config.yaml --set parallel.tensor=8
Variables named KSA_*, NCCL_*, OMP_*, PATH and LD_LIBRARY_PATH reach the ranks; a setting of NCCL or OpenMPI that the
environment already holds (NCCL_NVLS_ENABLE, OMPI_MCA_mpi_yield_when_idle, ...) is kept.
EOF
}

wrong() {
  echo "mpirun.sh: $*" >&2
  exit 64
}

# mpirun hands SIGUSR1 to all ranks and lets them finish; on SIGTERM it would kill them within two seconds. A signal that
# comes before mpirun runs is remembered: whatever is asked of the system until then may take long.
child='' early='' signalled=false
pass_on() {
  signalled=true
  if [ -n "$child" ]; then kill "-$1" "$child" 2>/dev/null || true; else early=$1; fi
}
trap 'pass_on USR1' USR1 TERM
trap 'pass_on INT' INT

ranks="" host_file="" device="" cores="" interface="" print=false
mca=()
while [ $# -gt 0 ]; do
  case "$1" in
    -h | --help) usage; exit 0 ;;
    --print) print=true; shift; continue ;;
    --) shift; break ;;
    --ranks | --host-file | --device | --cores | --interface | --mca) [ $# -ge 2 ] || wrong "$1 needs a value" ;;
    -*) usage >&2; wrong "unknown option '$1'" ;;
    *) break ;;
  esac
  case "$1" in
    --ranks) ranks=$2 ;;
    --host-file) host_file=$2 ;;
    --device) device=$2 ;;
    --cores) cores=$2 ;;
    --interface) interface=$2 ;;
    --mca) [[ "$2" == *=* ]] || wrong "--mca wants KEY=VALUE, got '$2'"; mca+=("$2") ;;
  esac
  shift 2
done
[ $# -gt 0 ] || { usage >&2; wrong "no command to start"; }
[[ "$ranks" =~ ^([1-9][0-9]*)?$ ]] || wrong "--ranks wants a number, got '$ranks'"
[[ "$cores" =~ ^([1-9][0-9]*)?$ ]] || wrong "--cores wants a number, got '$cores'"
[[ "$device" =~ ^(cpu|cuda)?$ ]] || wrong "--device is cpu or cuda, got '$device'"
if [ -n "$host_file" ] && [ ! -f "$host_file" ]; then
  echo "mpirun.sh: no host file $host_file" >&2
  exit 66
fi

gpus=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU ' || true)
[ -n "$device" ] || device=$([ "$gpus" -gt 0 ] && echo cuda || echo cpu)
slots=""
if [ -n "$host_file" ]; then
  # A host without a number of slots counts as one rank.
  slots=$(sed 's/#.*//' "$host_file" | awk 'NF { n = 1; for (i = 2; i <= NF; i++) if (sub(/^slots=/, "", $i)) n = $i; sum += n }
    END { print sum + 0 }')
fi
[ -n "$ranks" ] || ranks=$slots
if [ -z "$ranks" ] && [ "$device" = cuda ]; then ranks=$gpus; fi
[ "${ranks:-0}" -gt 0 ] || wrong "--ranks is missing: how many ranks?"
cores_here=$(unset OMP_NUM_THREADS OMP_THREAD_LIMIT; nproc)  # nproc would take these for the number of cores
# mpirun would bind ranks to the same cores without a word. It knows the cores of other hosts, this script does not.
if [ -n "$cores" ] && [ -z "$host_file" ] && [ "$ranks" -gt $((cores_here / cores)) ]; then
  wrong "--cores $cores wants $cores core(s) for each of $ranks rank(s), and this host has $cores_here:" \
    "lower --cores or --ranks, or leave --cores out"
fi

# set_default NAME VALUE: for the ranks, unless the environment says otherwise.
exported=()
set_default() {
  [ -n "${!1+set}" ] || export "$1=$2"
}

options=(-np "$ranks")
if [ -n "$host_file" ]; then options+=(--hostfile "$host_file"); fi
if [ -n "$cores" ]; then options+=(--map-by "slot:PE=$cores"); else options+=(--bind-to none); fi
# mpirun refuses more ranks than slots, and ranks that spin while they wait take the core from those that work.
if [ -z "$host_file" ]; then
  options+=(--oversubscribe)
  if [ "$ranks" -gt "$cores_here" ]; then set_default OMPI_MCA_mpi_yield_when_idle 1; fi
fi
if [ -n "$host_file" ]; then
  # A host that is gone is noticed after 4 + 5 x 1 seconds, not after eight minutes.
  set_default OMPI_MCA_oob_tcp_keepalive_time 4
  set_default OMPI_MCA_oob_tcp_keepalive_intvl 1
  set_default OMPI_MCA_oob_tcp_keepalive_probes 5
fi
if [ "$(id -u)" -eq 0 ]; then
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
fi
if [ -n "$interface" ]; then
  options+=(--mca btl_tcp_if_include "$interface" --mca oob_tcp_if_include "$interface")
fi
for setting in ${mca[@]+"${mca[@]}"}; do
  options+=(--mca "${setting%%=*}" "${setting#*=}")
done
if [ "$device" = cuda ]; then
  # A program that dies while it uses NVLink multicast can leave the GPUs of a host unusable.
  set_default NCCL_NVLS_ENABLE 0
  # A network by its address is for MPI alone: NCCL knows names.
  if [ -n "$interface" ] && [[ "$interface" != */* ]]; then set_default NCCL_SOCKET_IFNAME "$interface"; fi
fi
for name in $(compgen -e); do
  case "$name" in
    KSA_* | NCCL_* | OMP_*) exported+=("$name") ;;
    PATH | LD_LIBRARY_PATH) if [ -n "$host_file" ]; then exported+=("$name"); fi ;;
  esac
done
for name in ${exported[@]+"${exported[@]}"}; do
  options+=(-x "$name")
done

echo "mpirun.sh: $ranks rank(s) on ${host_file:-this host}, $device"
for name in $(compgen -e); do
  case "$name" in
    KSA_* | NCCL_* | OMP_* | OMPI_*) echo "  $name=${!name}" ;;
  esac
done
printf '  mpirun'
printf ' %q' "${options[@]}" "$@"
echo
if $print; then exit 0; fi

if [ -n "$early" ]; then
  echo "mpirun.sh: a signal came before mpirun was started: no rank has run, run the same line again" >&2
  if [ "$early" = INT ]; then exit 130; fi
  exit 85
fi
said=$(mktemp)
trap 'rm -f "$said"' EXIT
mpirun "${options[@]}" "$@" 2> >(tee "$said" >&2) &
child=$!
if [ -n "$early" ]; then pass_on "$early"; fi  # it came since the question above
while :; do
  signalled=false code=0
  wait "$child" || code=$?
  $signalled || break  # a signal ends `wait` with a code of its own; the next `wait` gives the child's
done
# mpirun's own codes when a host is lost: 205, or 1 with words about its daemon there.
if [ "$code" -eq 1 ]; then
  sleep 0.2  # what it said is written by another process
  if grep -q '^ORTE ' "$said"; then code=205; fi
fi
if [ "$code" -eq 205 ]; then code=75; fi
exit "$code"
