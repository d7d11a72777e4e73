"""Bundled checkpoints and their cards, installed as `xface_weights`."""
