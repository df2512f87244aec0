"""Cameras to lanes without an end: whatever fails is counted, said, and tried again.

Only the monotonic clock is read (`time.monotonic_ns`, one for all processes of a machine): a jump
of the wall clock changes nothing.
"""
