"""Distillation: what a student learns from a teacher, and how a teacher's answers are kept."""
