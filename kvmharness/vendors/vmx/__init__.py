"""Intel's VMX."""
