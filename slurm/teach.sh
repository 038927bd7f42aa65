#!/bin/bash
# Has a teacher answer masked words on a Slurm cluster, ahead of its students or while they learn:
#
#   sbatch --array=0-15 --gpus=1 slurm/teach.sh --teacher MODEL --data SHARDS --output SOFT    store the answers
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/teach.sh --teacher MODEL --data SHARDS --serve FLEET
#
# What follows the script's name is what launcher/teach.py takes. Of an array, every task answers its share of the shards;
# without one, every rank does. Out of time or killed, a job goes back into the queue and goes on where it was. Tasks that
# failed for good are done by SHARES=16 sbatch --array=3,7 ...
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

# task_of_array: which share of how many is this task's. SHARES=16 says how many there are where the array has some of them.
task_of_array() {
    local count=$(((SLURM_ARRAY_TASK_MAX - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP + 1))
    if [[ -n ${SHARES:-} ]]; then
        echo "$SLURM_ARRAY_TASK_ID/$SHARES"
    elif ((count == SLURM_ARRAY_TASK_COUNT)); then
        echo "$(((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN) / SLURM_ARRAY_TASK_STEP))/$count"
    else
        say "tasks of an array that are not evenly numbered: say of how many, SHARES=16 sbatch --array=3,7 ..., numbered from 0"
        exit 2
    fi
}

# answered: how many shards have their answers, whichever task gave them.
answered() { { find "$(value_of --output "$@")" -name '*.tar.json' 2>/dev/null || :; } | wc -l; }

if first_time; then python teach --check "$@"; fi
queue "$@"
[[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || task=$(task_of_array)
trap : TERM USR1 INT
code=0
if [[ -n $(value_of --serve "$@") ]]; then
    serve "$@" || code=$?
    ((SECONDS < 300)) && fruitless=1 || fruitless=
else
    before=$(answered "$@")
    OTHERS_END=0 ranks teach ${task:+--task "$task"} "$@" || code=$?
    (($(answered "$@") == before)) && fruitless=1 || fruitless=
fi
if ((code == 0)) || { ((code == 2)) && ! python teach --check "$@" >/dev/null; }; then exit "$code"; fi
# A start that served or answered something is not in vain, however many there are.
again "$code" "" "" $((${fruitless:-0} * (${SLURM_RESTART_COUNT:-0} + 1)))
