"""Who does the work of a build: processes of this machine, or the tasks of a Slurm cluster."""
