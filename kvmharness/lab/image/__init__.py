"""What an emulated host boots: an initramfs with Python and the package, and a job."""
