"""Does a job's steps in order and sends what happens, in an emulated host and on this machine alike.

Every step gives a Begin, then any number of Data (what a called function emits), Output (text that it or a program
prints) and Dmesg (lines that the kernel log gained), then End or Failed. A step that fails ends the job only if it is
required. Loaded inside an emulated host at 50 million instructions a second, so it imports little.
"""

import sys
import time
from _thread import RLock, get_ident
from collections.abc import Callable
from importlib import import_module

from kvmharness.errors import KvmHarnessError
from kvmharness.lab.events import Begin, Bye, Data, Dmesg, End, Event, Failed, Hello, Memory, Output, encode
from kvmharness.lab.inside.kernellog import KernelLog
from kvmharness.lab.inside.modules import Loader
from kvmharness.lab.steps import Call, Load, Step, Unload, decode

_TEXT_MAX = 1 << 16  # of an error's message and of its traceback


class Executor:
    """Does one job.

    Args:
        loader: loads and unloads KVM's modules.
        send: takes each event, encoded.
        log: the kernel's log, or None where it cannot be read.
        survives: what a step may raise without ending the executor too. Inside an emulated host that is everything; on
            this machine Ctrl-C and the end of the process pass through.
    """

    def __init__(
        self,
        loader: Loader,
        send: Callable[[bytes], None],
        log: KernelLog | None,
        survives: type[BaseException] = Exception,
    ) -> None:
        self._loader, self._receiver, self._log, self._survives = loader, send, log, survives
        self._receiver_error: BaseException | None = None
        self._streams = sys.stdout, sys.stderr
        self._sent = 0
        self._lock = RLock()  # a called function may have threads that print

    def run(self, job: bytes, nonce: str = "") -> None:
        """Does the steps that *job* holds (see :func:`kvmharness.lab.steps.encode`).

        Args:
            job: the steps.
            nonce: to be given back first.
        """
        self._send(Hello(sys.version.partition(" ")[0], time.monotonic_ns(), nonce))
        for number, step in enumerate(decode(job)):
            if not self._step(number, step) and step.required:
                return
        self._send(Bye(self._sent))

    def _step(self, number: int, step: Step) -> bool:
        """Does one step; False when it failed."""
        self._send(Begin(number))
        failed = None
        try:
            ended = encode(End(number, self._do(number, step)))
        except self._survives as error:
            if error is self._receiver_error:
                raise  # not the step's: whoever takes the events has had enough
            failed = _failed(number, error)
        self._say_log(number)
        self._deliver(encode(failed) if failed else ended)
        return failed is None

    def _say_log(self, number: int) -> None:
        if gained := self._log.gained() if self._log else ():
            self._send(Dmesg(number, tuple(gained)))

    def _emit(self, number: int, data: dict[str, object]) -> None:
        """What a called function emits comes behind what the kernel's log gained by then, so that it can be told whose
        that is."""
        self._say_log(number)
        self._send(Data(number, data))

    def _do(self, number: int, step: Step) -> object:
        if isinstance(step, Load):
            return self._loader.load(step)
        if isinstance(step, Unload):
            gone = self._loader.unload()
            if step.memory and (held := self._loader.memory()):
                self._send(Memory(number, held))
            return gone
        if isinstance(step, Call):
            return self._call(number, step)
        from kvmharness.lab.inside.execute import execute

        return execute(step, lambda text: self._send(Output(number, text)))

    def _call(self, number: int, step: Call) -> object:
        module, _, name = step.function.partition(":")
        self._streams = sys.stdout, sys.stderr
        printed = _Printed(sys.stderr, lambda text: self._send(Output(number, text)))
        sys.stdout = sys.stderr = printed
        try:
            function = getattr(import_module(module), name)
            return function(lambda data: self._emit(number, data), **step.args)
        finally:
            printed.close()
            sys.stdout, sys.stderr = self._streams

    def _send(self, event: Event) -> None:
        self._deliver(encode(event))

    def _deliver(self, payload: bytes) -> None:
        """Hands over an event; what the receiver prints is not the step's."""
        with self._lock:
            streams = sys.stdout, sys.stderr
            sys.stdout, sys.stderr = self._streams
            try:
                self._receiver(payload)
                self._sent += 1
            except BaseException as error:
                self._receiver_error = error
                raise
            finally:
                sys.stdout, sys.stderr = streams


class _Printed:
    """Stands for sys.stdout and sys.stderr during a call: whole lines become events.

    Threads that were there before the call go on writing where they did, and so does everybody after it.
    """

    encoding = "utf-8"
    errors = "backslashreplace"

    def __init__(self, stream: object, send: Callable[[str], None]) -> None:
        self._stream, self._send, self._line = stream, send, ""
        self._others = set(sys._current_frames()) - {get_ident()}
        self._closed = False

    def write(self, text: str) -> int:
        if self._closed or get_ident() in self._others:
            return self._stream.write(text)  # type: ignore[attr-defined, no-any-return]
        self._line += text
        head, newline, self._line = self._line.rpartition("\n")
        if newline:
            self._send(head + newline)
        return len(text)

    def flush(self) -> None:
        if self._line and get_ident() not in self._others:
            text, self._line = self._line, ""
            self._send(text)

    def close(self) -> None:
        self.flush()
        self._closed = True

    def isatty(self) -> bool:
        return False

    def __getattr__(self, name: str) -> object:
        return getattr(self._stream, name)


def _failed(number: int, error: BaseException) -> Failed:
    """What goes out about an exception: a traceback only if it is a bug."""
    name, message = type(error).__name__, str(error)[:_TEXT_MAX]
    if isinstance(error, KvmHarnessError):
        return Failed(number, name, message, error.hint, int(error.exit_code))
    import traceback  # costs 50 ms in an emulator, so only when it is needed

    return Failed(number, name, message, traceback="".join(traceback.format_exception(error))[-_TEXT_MAX:])
