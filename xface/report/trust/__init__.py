"""The report of a run of `xface trust`: which maps of a detector earn belief."""
