"""ftrace around a piece of work: which of KVM's functions ran, and which of its tracepoints they passed.

In an emulated host, which is nobody else's, the function graph is taken, of KVM's modules only; it exists once for the
whole kernel. Elsewhere only tracepoints are, in an instance of its own, so that nobody's trace is disturbed. Either way
everything is afterwards as it was before.

Source: Documentation/trace/ftrace.rst, "The File System", "function graph tracer", "Instances".
"""

import os
from _thread import get_native_id
from collections.abc import Iterator
from contextlib import ExitStack

from kvmharness.errors import HostRequirementError

TYPE_CHECKING = False  # typing's own costs its import
if TYPE_CHECKING:
    from typing import Self

TRACEFS = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
GRAPH = "function_graph"
EVENTS = ("kvm", "kvmmmu")
_BUFFER_KB = 8192
# What differs from run to run is left out: processors, times.
_OPTIONS = {"funcgraph-cpu": 0, "funcgraph-duration": 0, "funcgraph-overhead": 0, "funcgraph-irqs": 0}


class Ftrace:
    """A trace of this thread. A context manager: it leaves nothing switched on.

    Args:
        modules: those whose functions are traced; empty for tracepoints alone.
        root: where tracefs is mounted; found when empty.

    Attributes:
        lacking: why there is no function graph though one was asked for; empty otherwise.

    Raises:
        HostRequirementError: there is no tracefs here, or it is not ours to use.
    """

    def __init__(self, modules: tuple[str, ...], root: str = "") -> None:
        self._root = root or next((path for path in TRACEFS if os.path.exists(f"{path}/trace")), "")
        if not os.access(f"{self._root}/tracing_on", os.W_OK):
            raise HostRequirementError(
                "tracing needs tracefs, and root's rights to it",
                f"mount -t tracefs tracefs {TRACEFS[0]}, and run as root",
            )
        self._modules = modules
        self._undo = ExitStack()
        self.lacking = ""

    def __enter__(self) -> "Self":
        try:
            self._begin()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._undo.close()

    def _begin(self) -> None:
        if not self._modules:
            self._own_instance()
        self._set("tracing_on", "0")
        self._set("buffer_size_kb", str(_BUFFER_KB))
        if self._modules:
            self._graph()
        thread = str(get_native_id())
        self._list("set_event_pid", thread)
        for system in EVENTS:
            if os.path.exists(f"{self._root}/events/{system}"):
                self._undo.callback(self._write, f"events/{system}/enable", "0")
                self._write(f"events/{system}/enable", "1")
        self._undo.callback(self._write, "trace", "")

    def _own_instance(self) -> None:
        _remove_abandoned(self._root)
        self._root = f"{self._root}/instances/kvmharness-{os.getpid()}"
        os.mkdir(self._root)
        self._undo.callback(os.rmdir, self._root)

    def _graph(self) -> None:
        if GRAPH not in self._read("available_tracers").split():
            self.lacking = "this kernel has no function_graph tracer (CONFIG_FUNCTION_GRAPH_TRACER)"
            return
        self._undo.callback(self._write, "set_ftrace_filter", "")
        for module in self._modules:
            self._write("set_ftrace_filter", f"*:mod:{module}", "a")
        self._list("set_ftrace_pid", str(get_native_id()))
        self._set("current_tracer", GRAPH)
        for name, value in _OPTIONS.items():
            if os.path.exists(f"{self._root}/options/{name}"):
                self._set(f"options/{name}", str(value))

    def start(self) -> None:
        """Traces from now on; what was traced before is forgotten."""
        self._write("trace", "")
        self._write("tracing_on", "1")

    def stop(self) -> None:
        """Traces no more."""
        self._write("tracing_on", "0")

    def lines(self) -> Iterator[str]:
        """What was traced, as the kernel writes it."""
        with open(f"{self._root}/trace", errors="backslashreplace") as file:
            for line in file:
                yield line.rstrip("\n")

    def _set(self, name: str, value: str) -> None:
        """A setting, and its way back."""
        before = self._read(name).split("(")[0].strip()
        self._undo.callback(self._write, name, before)
        self._write(name, value)

    def _list(self, name: str, value: str) -> None:
        """A list that is empty unless somebody filled it."""
        self._undo.callback(self._write, name, "")
        self._write(name, value)

    def _read(self, name: str) -> str:
        with open(f"{self._root}/{name}") as file:
            return file.read()

    def _write(self, name: str, value: str, mode: str = "w") -> None:
        with open(f"{self._root}/{name}", mode) as file:
            file.write(value)


def _remove_abandoned(root: str) -> None:
    """Removes the instances of processes of ours that were killed."""
    for name in os.listdir(f"{root}/instances"):
        tool, _, number = name.partition("-")
        if tool == "kvmharness" and number.isdecimal() and not os.path.exists(f"/proc/{number}"):
            os.rmdir(f"{root}/instances/{name}")
