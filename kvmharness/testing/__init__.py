"""What the pytest plugin is made of; loaded only by a session that has tests for KVM."""
