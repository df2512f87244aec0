"""Bundles: one archive that holds all a vehicle needs to build, prove and run its own engine."""
