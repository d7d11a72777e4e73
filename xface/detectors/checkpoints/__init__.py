"""Checkpoints: weights files of any kind, read without running any of their code."""
