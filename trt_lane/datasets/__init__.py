"""Frames and labels in, predictions out; `open_dataset("culane:DIR")` finds the right reader."""
