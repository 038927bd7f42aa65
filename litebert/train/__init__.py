"""Pretraining: a DeepSpeed engine, the loop that drives it, and everything that makes a run resumable."""
