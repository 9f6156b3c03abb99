"""Several emulated hosts at work at the same time: the first error, or Ctrl-C, ends all of them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from threading import Event

from kvmharness.lab.machines.supervisor import STOPPED


def side_by_side(tasks: Sequence[Callable[[], None]], at_once: int) -> None:
    """Does tasks in threads, begun in their order.

    Args:
        tasks: what to do; emulators that they run are stopped when another task fails.
        at_once: how many at the same time; 1 for one after the other.

    Raises:
        What the first task to fail raises, once no task is going on any more; KeyboardInterrupt likewise.
    """
    if min(at_once, len(tasks)) <= 1:
        for task in tasks:
            task()
        return
    stop, above = Event(), STOPPED.get()
    errors: list[BaseException] = []

    def work(task: Callable[[], None]) -> None:
        STOPPED.set(lambda: stop.is_set() or above())
        if STOPPED.get()():
            return
        try:
            task()
        except BaseException as error:
            errors.append(error)
            stop.set()

    with ThreadPoolExecutor(at_once) as pool:
        try:
            wait([pool.submit(work, task) for task in tasks])
        except BaseException:
            stop.set()
            raise
    if errors:
        raise errors[0]  # the others' are that they were stopped
