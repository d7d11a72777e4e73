"""`xface trust`: which maps of a detector earn belief, by all checks, on labelled pictures."""
