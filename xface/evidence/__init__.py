"""Evidence: what a detector's verdict depends on, shown by changing the picture."""
