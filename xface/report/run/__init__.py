"""Reports on a run: one page, its figures and its CSV tables."""
