#!/usr/bin/env bash
# mpirun.sh RANKS PROGRAM [ARGUMENTS...]: the program on so many ranks of this host, whatever its number of cores.
set -euo pipefail
ranks=${1:?"usage: mpirun.sh RANKS PROGRAM [ARGUMENTS...]"}
shift
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
exec mpirun --oversubscribe --bind-to none -np "$ranks" "$@"
