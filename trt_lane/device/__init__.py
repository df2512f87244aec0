"""What a device says of itself: NVML, sysfs, tegrastats and nvpmodel, read and never set."""
