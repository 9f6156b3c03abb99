"""Emulated hosts saved while their agent waits for a job, and restored for each job: seconds instead of a boot."""
