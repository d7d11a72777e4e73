"""Images: files read as upright 8-bit RGB, within bounds of time and memory."""
