"""Makes the bundled demo weights from the synthetic roads: `python -m training MODEL`."""
