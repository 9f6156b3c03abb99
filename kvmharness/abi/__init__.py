"""The kernel's KVM ABI as it is: declarations, the table of ioctls, and the binding that calls them."""
