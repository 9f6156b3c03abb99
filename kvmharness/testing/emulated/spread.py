"""Tests of an emulated host under pytest-xdist: each worker gets a share of them, and an emulator of its own.

pytest-xdist hands out tests a few at a time, and a boot takes a list of them. So all tests are dealt out in the
beginning: test number i belongs to share i modulo the number of workers. Whoever gets a share runs its tests of an
emulated host when the first one of them is due, and tells of each at its turn.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from kvmharness.testing.emulated.loop import HostRun, own_emulator
from kvmharness.testing.emulated.replay import Replay, Teller
from kvmharness.testing.needs import Place

_DISTRIBUTES = ("load", "worksteal")


def check(config: pytest.Config) -> None:
    """Refuses what would tear shares apart.

    Raises:
        pytest.UsageError: the user wants a scheduler of pytest-xdist's by name.
    """
    if config.option.dist not in _DISTRIBUTES:
        raise pytest.UsageError(
            f"--kvm-host and --dist {config.option.dist} cannot be used together",
            "Leave --dist away: the tests are dealt out to as many emulators as there are workers.",
        )


def scheduler(config: pytest.Config, log: Any) -> Any:
    """A scheduler of pytest-xdist's that deals tests out."""
    from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-not-found, import-untyped, unused-ignore]

    class Dealing(LoadScopeScheduling):  # type: ignore[misc, unused-ignore]
        def _split_scope(self, nodeid: str) -> str:
            if not shares:  # asked first when all workers are there
                workers = len(self.nodes)
                shares.update({each: f"share {number % workers}" for number, each in enumerate(self.collection or ())})
            return shares[nodeid]

    shares: dict[str, str] = {}
    return Dealing(config, log)


class Share(Teller):
    """The tests that one worker runs in one emulated host.

    Args:
        places: the tests, with where each runs.
    """

    def __init__(self, places: Mapping[pytest.Item, Place]) -> None:
        self._places = places
        self._reports: dict[pytest.Item, list[pytest.TestReport]] = {item: [] for item in places}
        self._ran = False

    def tell(self, item: pytest.Item) -> None:
        """Tells pytest what happened to a test; the first time, all of them are run before."""
        if not self._ran:
            self._ran = True
            self._run(item.session)
        super().start(item)
        for report in self._reports[item]:
            super().report(item, report)
        super().finish(item)

    def start(self, item: pytest.Item) -> None:
        """Said at the test's turn."""

    def report(self, item: pytest.Item, report: pytest.TestReport) -> None:
        """Keeps a report until the test's turn."""
        self._reports[item].append(report)

    def finish(self, item: pytest.Item) -> None:
        """Said at the test's turn."""

    def _run(self, session: pytest.Session) -> None:
        host = next(place.host for place in self._places.values())
        params = {item: place.params for item, place in self._places.items()}
        try:
            HostRun(session, host, params, own_emulator(session.config, [host]), self).run()
        except pytest.UsageError as error:  # here it would end the worker, and say nothing
            Replay(session, self._places, host, self).give_up(str(error))


def share_out(items: Sequence[pytest.Item], places: Sequence[Place], workers: int) -> list[Share | None]:
    """The share that each test is in, None for one that runs here.

    Args:
        items: all tests of the session, as the scheduler numbers them.
        places: where each runs.
        workers: how many there are.
    """
    found: list[Share | None] = [None] * len(items)
    for worker in range(workers):
        mine = range(worker, len(items), workers)
        for host in dict.fromkeys(places[number].host for number in mine):
            numbers = [number for number in mine if places[number].host == host]
            if host:
                share = Share({items[number]: places[number] for number in numbers})
                for number in numbers:
                    found[number] = share
    return found
