#!/bin/bash
# Pretrains on the nodes of a Slurm cluster:
#
#   sbatch --nodes=2 --ntasks-per-node=8 --gpus-per-node=8 slurm/pretrain.sh --config RECIPE --data SHARDS --run RUN
#
# What follows the script's name is what launcher/pretrain.py takes. A task is a rank, with a GPU where there are some; a node has
# one if nothing is said.
# `bash slurm/pretrain.sh ...` first checks here whether the job could run, then submits it with slurm/site.sh's settings.
# Near its time limit, preempted, or without one of its nodes, the run saves a checkpoint if it can and the job goes back
# into the queue. It goes on with as many nodes as it then gets: --nodes=1-4.
#
#SBATCH --job-name=litebert-pretrain
#SBATCH --nodes=1
#SBATCH --time=1-00:00:00
#SBATCH --requeue --open-mode=append
#SBATCH --signal=USR1@180
#SBATCH --output=pretrain-%j.log
set -euo pipefail

REPOSITORY=${REPOSITORY:-${SLURM_SUBMIT_DIR:-$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)}}
[[ -f $REPOSITORY/slurm/job.sh ]] || { echo "submit this from the repository, or set REPOSITORY" >&2; exit 2; }
source "$REPOSITORY/slurm/site.sh"
source "$REPOSITORY/slurm/job.sh"

if first_time; then python pretrain --check "$@"; fi
queue "$@"
train pretrain "$@"
