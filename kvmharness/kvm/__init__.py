"""Objects over the ioctls, one file a level: system, VM, vCPU."""
