"""Samples become blocks in tar shards, and are read back."""
