"""The format of a run's folder, and who may write into it."""
