"""Does one job in a process of its own, so that a machine that is lost takes nothing along.

``python -m kvmharness.fleet.child FOLDER``: the order is in there, and every file that it takes under its hash.
Events go to a file in there as they come, and at the end how it ended, if not by itself.
"""

import json
import sys
from pathlib import Path

from kvmharness.errors import KvmHarnessError, LostMachineError
from kvmharness.fleet.answers import Ended
from kvmharness.fleet.wire import Boot, Order, linked, read_order
from kvmharness.lab.events import Event, encode
from kvmharness.lab.job import Machine, OnEvent, StepFailedError
from kvmharness.lab.kernels.build import Kernel
from kvmharness.lab.steps import fields_of
from kvmharness.system import scratch
from kvmharness.system.cache import remove_leftovers
from kvmharness.validation.snapshots import emulated_host

ORDER, EVENTS, ENDED = "order.json", "events", "ended.json"


def main(arguments: list[str]) -> int:
    """Does the job of a folder; 0 however that ends."""
    folder = Path(arguments[0])
    scratch.remove_leftovers()
    remove_leftovers()
    order = read_order((folder / ORDER).read_text())
    with (folder / EVENTS).open("wb", buffering=0) as events:

        def keep(event: Event) -> None:
            events.write(encode(event) + b"\n")

        ended = _done(folder, order, keep)
    if ended is not None:
        (folder / ENDED).write_text(json.dumps(fields_of(ended)))
    return 0


def _done(folder: Path, order: Order, on_event: OnEvent) -> Ended | None:
    try:
        _machine(folder, order.boot).run(order.job(folder), on_event)
    except StepFailedError:  # the events say so
        return None
    except KvmHarnessError as error:
        console = error.console if isinstance(error, LostMachineError) else ()
        return Ended(type(error).__name__, str(error), error.hint, tuple(console))
    return None


def _machine(folder: Path, boot: Boot) -> Machine:
    own = linked(boot.modules, folder / "kernel")
    kernel = Kernel(folder / boot.image, own, command_line=boot.command_line, of_variant=boot.of_variant)
    return emulated_host(boot.host, kernel, snapshot=boot.snapshot)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
