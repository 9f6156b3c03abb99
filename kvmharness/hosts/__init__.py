"""What this machine is, and which of a test's needs it does not meet."""
