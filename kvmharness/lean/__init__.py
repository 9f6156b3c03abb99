"""Stand-ins for modules of the standard library that cost seconds to load in an emulated host."""
