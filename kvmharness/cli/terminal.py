"""Joins the user's terminal with a pseudoterminal, at whose other end an emulator has a serial port.

As with ssh, what runs at the other end writes to the terminal as it likes, and each key goes there, Ctrl-C too. The
terminal is given back as it was, whatever happens.
"""

import os
import select
import selectors
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

LEAVE = b"\x1d"
"""Ctrl-], as telnet has it: for an end that does not answer any more."""

_END_OF_INPUT = b"\x04"  # Ctrl-D
_CHUNK_BYTES, _TYPED_BYTES = 1 << 12, 1 << 8
_WAIT_S = 0.01
_AGAIN_S = 2.0
_STDIN, _STDOUT = 0, 1


@dataclass(frozen=True, slots=True)
class Joined:
    """A terminal that is joined.

    Attributes:
        path: of the pseudoterminal, for the emulator.
        rows, columns: of the user's terminal; 0 where there is none.
    """

    path: str
    rows: int
    columns: int


@contextmanager
def joined(on_leave: Callable[[], None]) -> Iterator[Joined]:
    """Joins standard input and output with a pseudoterminal.

    Nothing is read of the input before the other end has said something: until then there is nobody to hear it.

    Args:
        on_leave: called, from another thread, when the user presses :data:`LEAVE`.
    """
    ours, theirs = os.openpty()
    done, stop = os.pipe()
    tty.setraw(theirs)
    rows, columns = termios.tcgetwinsize(_STDOUT) if os.isatty(_STDOUT) else (0, 0)
    before = termios.tcgetattr(_STDIN) if os.isatty(_STDIN) else None
    pump = threading.Thread(target=_pump, args=(ours, done, before is not None, on_leave), daemon=True)
    pump.start()
    try:
        yield Joined(os.ttyname(theirs), rows, columns)
    finally:
        os.close(stop)
        pump.join()
        if before is not None:
            termios.tcsetattr(_STDIN, termios.TCSADRAIN, before)
        for number in (ours, theirs, done):
            os.close(number)


def _pump(ours: int, done: int, keys: bool, on_leave: Callable[[], None]) -> None:
    with selectors.PollSelector() as selector:  # a file can be polled, too
        selector.register(done, selectors.EVENT_READ)
        selector.register(ours, selectors.EVENT_READ)
        heard = ended = False
        while True:
            # The end is told again while nothing comes of it: a line editor that starts drops what was typed before.
            ready = {key.fd for key, _ in selector.select(_AGAIN_S if ended else None)}
            if not ready and select.select([], [ours], [], 0)[1]:
                os.write(ours, _END_OF_INPUT)
            if ours in ready:
                if not heard:  # before it is seen, for that is what is waited for before a key is pressed
                    heard = True
                    if keys:
                        tty.setraw(_STDIN)
                    selector.register(_STDIN, selectors.EVENT_READ)
                _show(os.read(ours, _CHUNK_BYTES))
            elif done in ready:  # after all that was said
                return
            if _STDIN in ready and not _pass_on(ours, keys, on_leave):
                selector.unregister(_STDIN)
                ended = True


def _pass_on(ours: int, keys: bool, on_leave: Callable[[], None]) -> bool:
    """Passes on what is typed, as fast as the other end takes it; False at its end."""
    if not select.select([], [ours], [], _WAIT_S)[1]:
        return True  # it is asked again, and what it says is heard in between
    typed = os.read(_STDIN, _TYPED_BYTES)
    if keys and LEAVE in typed:
        on_leave()
    os.write(ours, typed or _END_OF_INPUT)
    return bool(typed)


def _show(said: bytes) -> None:
    with suppress(OSError):  # nobody looks any more
        sys.stdout.flush()
        while said:
            said = said[os.write(_STDOUT, said) :]
