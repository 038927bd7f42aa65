"""Tasks, and models that are fine-tuned on them."""
