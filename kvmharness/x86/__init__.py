"""The architecture as pure functions and enums: nothing in here opens a file or a device."""
