"""The traceable kernel: the measured one with ftrace's function graph, and KVM's modules with debug information.

A kernel for those who look for a fault, not for figures: each function begins with room for a call of the tracer, and
so a round trip takes some instructions more. What is built in has symbols only, since it is KVM that is looked at, and
to compile all of it with debug information takes half as long again.

Source: Documentation/trace/ftrace.rst; lib/Kconfig.debug, kernel/trace/Kconfig.
"""

from kvmharness.lab.kernels.config import FRAGMENTS, Fragment, Recipe

TRACEABLE = Recipe(
    "traceable kernel",
    (
        *FRAGMENTS,
        Fragment("which functions are called, and by which", on="FUNCTION_TRACER FUNCTION_GRAPH_TRACER DYNAMIC_FTRACE"),
        Fragment(
            "lines and structures for a debugger",
            on="DEBUG_KERNEL DEBUG_INFO DEBUG_INFO_DWARF4",
            off="DEBUG_INFO_NONE DEBUG_INFO_REDUCED DEBUG_MISC",
        ),
    ),
    image_words=("KCFLAGS=-g0",),
)
