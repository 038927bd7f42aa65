#!/bin/bash
# Text to shards on a Slurm cluster, by the same recipe as on one machine:
#
#   sbatch slurm/prepare.sh --config data_tools/recipes/pretrain.yaml --input FILE... --tokenizer TOKENIZER --output SHARDS
#
# What follows the script's name is what `python -m data_tools build` takes. This job hashes the input, submits each
# stage as a job array, the next one when that is done, and publishes the shards. Killed, requeued or out of time, the same command goes on where it was.
# Input, output and this repository must have the same paths on all nodes. It also runs without sbatch, on a login node.
#
#SBATCH --job-name=litebert-prepare
#SBATCH --ntasks=1 --cpus-per-task=1 --mem=2G
#SBATCH --time=7-00:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --output=prepare-%j.log
set -euo pipefail

# Settings, beside those of slurm/site.sh, or from the environment: TASKS=200 PARTITION=cpu sbatch slurm/prepare.sh ...
TASKS=${TASKS:-16}                  # of each job array; each takes one core
TIME=${TIME:-24:00:00}              # limit of one task
MEMORY_GB=${MEMORY_GB:-2}           # of one task

# sbatch runs a copy of this file from elsewhere, and says where the job was submitted.
REPOSITORY=${REPOSITORY:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}
[[ -d $REPOSITORY/data_tools ]] || REPOSITORY=${SLURM_SUBMIT_DIR:-$PWD}
[[ -d $REPOSITORY/data_tools ]] || { echo "prepare.sh: submit from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
[[ -z $CONTAINER ]] || echo "prepare.sh: runs outside of CONTAINER, where sbatch is" >&2
CONTAINER=
source "$REPOSITORY/slurm/job.sh" # loads MODULES: the arrays' tasks have this job's environment

PARTITION=${PARTITION:-$(sinfo --noheader --format=%P | sed -n 's/\*$//p')} # the one with a star is the default
[[ -n $PARTITION ]] || { say "this cluster has no default partition: set PARTITION"; exit 2; }
exec "$PYTHON" -m data_tools build --executor slurm --tasks "$TASKS" --slurm.partition "$PARTITION" \
    --slurm.time "$TIME" --slurm.memory_gb "$MEMORY_GB" --slurm.qos "$QOS" --slurm.account "$ACCOUNT" "$@"
