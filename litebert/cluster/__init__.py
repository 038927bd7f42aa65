"""What a cluster is like before a run is sent there."""
