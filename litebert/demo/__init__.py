"""The parts of `make demo`: its own text, stages that run once, filled sentences, the table at the end."""
