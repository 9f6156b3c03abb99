"""The kernel's ABI as it is: declarations, numbers and constants, and calls that check level and struct first."""
