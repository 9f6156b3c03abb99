"""The emulated host: kernels and variants, the image that boots, the machine and the agent inside it."""
