"""Names that the plugin and its inside in an emulated host share."""

INSIDE = "kvmharness-inside"
"""Name of the plugin that is registered where the tests run inside an emulated host."""

INI = "kvm-suite.ini"
"""The configuration file that pytest is given there."""
