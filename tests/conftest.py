"""pytest's own means to test a plugin; the hardware tests use the package's plugin, which is installed with it."""

import signal

pytest_plugins = ("pytester",)

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # started in the background of a shell; tests press Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
