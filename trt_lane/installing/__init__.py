"""Bringing a bundle onto a vehicle: check, build, prove, and only then switch to it."""
