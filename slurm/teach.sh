#!/bin/bash
# Has a teacher answer masked words on a Slurm cluster, ahead of its students or while they learn:
#
#   sbatch --array=0-15 --gpus=1 slurm/teach.sh --teacher MODEL --data SHARDS --output SOFT    store the answers
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/teach.sh --teacher MODEL --data SHARDS --serve FLEET
#
# What follows the script's name is what launcher/teach.py takes. Of an array, every task answers its share of the shards;
# without one, every rank does. Out of time or killed, a job goes back into the queue and goes on where it was.
# A fleet listens at all addresses of its nodes, and students call them by their host names: --host and --advertise change
# that. It serves until scancel.
#
#SBATCH --job-name=litebert-teach
#SBATCH --nodes=1
#SBATCH --time=1-00:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --signal=USR1@60
#SBATCH --output=teach-%A_%a.log
set -euo pipefail

REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
[[ -f $REPOSITORY/slurm/job.sh ]] || { echo "submit this from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
source "$REPOSITORY/slurm/job.sh"

STUCK=${STUCK:-20}                          # starts that a task may take

if first_time; then python teach --check "$@"; fi
queue "$@"
trap : TERM USR1 INT
code=0
if [[ -n $(value_of --serve "$@") ]]; then
    serve "$@" || code=$?
elif [[ -n ${SLURM_ARRAY_TASK_ID:-} ]]; then
    number=$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP))
    ranks teach --task "$number/$SLURM_ARRAY_TASK_COUNT" "$@" || code=$?
else
    ranks teach "$@" || code=$?
fi
((code == 0 || code == 2)) || again "$code" "$((${SLURM_RESTART_COUNT:-0} + 1))"
exit "$code"
