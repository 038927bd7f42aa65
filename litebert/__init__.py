"""Small, fast Chinese encoders: pretraining and distillation on DeepSpeed."""
