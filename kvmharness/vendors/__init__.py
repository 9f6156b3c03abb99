"""The vendors of virtualization, one folder each; nobody else knows a vendor's module or instructions by name."""
