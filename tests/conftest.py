"""pytest's own means to test a plugin; the hardware tests use the package's plugin, which is installed with it."""

pytest_plugins = ("pytester",)
