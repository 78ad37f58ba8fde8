#!/usr/bin/env bash
# Two "hosts", network namespaces with an address each, and a real mpirun over both: data parallel training equals the
# same ranks on one host in bits, and SIGUSR1 saves and stops it. Skipped (77) where namespaces are not allowed.
# shellcheck source=../e2e/lib.sh
source "$(dirname "$0")/../e2e/lib.sh"

first=ksa-a-$$ second=ksa-b-$$
trap 'ip netns delete "$first" 2>/dev/null; ip netns delete "$second" 2>/dev/null; rm -rf "$work"' EXIT
skip() {
  echo "SKIPPED: $*"
  exit 77
}
[ "$(id -u)" -eq 0 ] || skip "network namespaces need root"
for tool in ip unshare mpirun; do
  command -v "$tool" >/dev/null || skip "no $tool"
done
{ ip netns add "$first" && ip netns add "$second" && ip link add ka$$ type veth peer name kb$$ &&
  ip link set ka$$ netns "$first" && ip link set kb$$ netns "$second"; } >"$work/namespaces" 2>&1 ||
  skip "no network namespaces here: $(tr '\n' ' ' <"$work/namespaces")"
ip -n "$first" address add 10.77.0.1/24 dev ka$$
ip -n "$second" address add 10.77.0.2/24 dev kb$$
for host in "$first" "$second"; do
  ip -n "$host" link set lo up
done
ip -n "$first" link set ka$$ up
ip -n "$second" link set kb$$ up

# on NAMESPACE HOST_NAME COMMAND...: with a host name of its own, too, by which OpenMPI tells hosts apart.
cat >"$work/on" <<'EOF'
#!/usr/bin/env bash
namespace=$1 name=$2
shift 2
exec ip netns exec "$namespace" unshare --uts bash -c 'hostname "$0" && exec "$@"' "$name" "$@"
EOF
# What mpirun calls in place of ssh: AGENT HOST COMMAND.
cat >"$work/agent" <<EOF
#!/usr/bin/env bash
shift
exec "$work/on" "$second" host-b sh -c "\$*"
EOF
chmod +x "$work/on" "$work/agent"
printf '10.77.0.1 slots=1\n10.77.0.2 slots=1\n' >"$work/host_file"

make_corpus
config=configs/test/ksa.yaml
# two_hosts RUN: the command that trains on both hosts, in `command`.
two_hosts() {
  local arguments
  mapfile -t arguments < <(options "$1")
  command=("$work/on" "$first" host-a launch/mpirun.sh --host-file "$work/host_file" --device cpu --interface 10.77.0.0/24
           --mca "plm_rsh_agent=$work/agent" --mca "btl=tcp,self"
           "$KSA" train "$config" "${arguments[@]}" --set run.threads=1)
}

two_hosts hosts
expect_exit 0 "${command[@]}"
expect_output "rank 0 on host-a: cpu; data 0"
expect_output "rank 1 on host-b: cpu; data 1"
expect_exit 0 train_ranks 2 ranks "$config"
expect_exit 0 train one "$config"
expect_exit 0 "$KSA" compare "$work/hosts" "$work/ranks" --assert-equal
expect_exit 0 "$KSA" compare "$work/hosts" "$work/one" --rtol 5e-4

# train_on RUN: in the background, until it has written three steps; `job`.
train_on() {
  two_hosts "$1"
  "${command[@]}" --set training.max_steps=1000000 --set checkpoint.interval=1000000 --set evaluation.interval=0 \
    >"$work/output" 2>&1 &
  job=$!
  for _ in $(seq 600); do
    [ "$(steps_written "$1")" -ge 3 ] && break
    sleep 0.05
  done
}
# ends CODE: the job in the background.
ends() {
  local code=0
  wait "$job" || code=$?
  [ "$code" -eq "$1" ] || { cat "$work/output" >&2; fail "exit code $code instead of $1"; }
}

train_on stopped
kill -USR1 "$job"
ends 85
expect_exit 0 "$KSA" ckpt verify "$work/stopped"

# The network between them goes: both sides notice, and nothing stays.
train_on cut
ip -n "$first" link set ka$$ down
start=$SECONDS
ends 75
expect_output "ORTE "  # "has lost communication with a remote daemon", or another of its sentences
[ $((SECONDS - start)) -le 20 ] || fail "it took $((SECONDS - start)) s to notice that a host is gone"
for _ in $(seq 100); do
  pgrep -f "$work/cut" >/dev/null || exit 0
  sleep 0.1
done
fail "processes outlive the run: $(pgrep -f "$work/cut" | tr '\n' ' ')"
