"""What runs inside a host under test: all that is carried there, and as little as possible."""
