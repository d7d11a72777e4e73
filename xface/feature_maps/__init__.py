"""Feature maps: how a layer's output is read as one, and which layers of a network have one."""
