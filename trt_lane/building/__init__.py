"""TensorRT's builder in a child process: for the workshop's `engines build` and for the vehicle.

An engine belongs to the device and the TensorRT that built it, so a vehicle builds its own; what it
needs for that is here and imports nothing of the workshop.
"""
