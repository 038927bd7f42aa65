"""What a run will take, before anything runs: memory, time, disk and network."""
