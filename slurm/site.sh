# What is the same for all jobs of a site: change it here, or set it from the environment. The scripts beside it read it.
# The first four are for `bash slurm/...`, which submits; sbatch itself reads SBATCH_PARTITION, SBATCH_ACCOUNT and SBATCH_QOS.
PARTITION=${PARTITION:-}            # empty: the cluster's default
ACCOUNT=${ACCOUNT:-}                # empty: yours
QOS=${QOS:-}                        # empty: the cluster's default
RESOURCES=${RESOURCES:-}            # of trainings that `bash slurm/...` queues: --nodes=2 --ntasks-per-node=8 --gpus-per-node=8
MODULES=${MODULES:-}                # to load in every job: cuda/12.6 gcc/13
CONTAINER=${CONTAINER:-}            # what Python is run by: apptainer exec --nv /images/litebert.sif
PYTHON=${PYTHON:-$REPOSITORY/.venv/bin/python}
# export NCCL_SOCKET_IFNAME=ib0     # where the interfaces that NCCL and gloo find by themselves are not the fast ones;
# export GLOO_SOCKET_IFNAME=ib0     # a training shows at its start what it talks over
