"""The command line of xface, installed as `xface_cli`."""
