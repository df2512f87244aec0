"""The fastest that a device could possibly run a network, layer by layer (Williams 2009)."""
