"""Records as large as they may become: comparing them takes time in proportion, and not much of it."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from kvmharness.cells.cell import Cell, Setup
from kvmharness.cli.compare import Request, run
from kvmharness.report.comparison import comparison_lines
from kvmharness.results.record import Record
from kvmharness.results.store import save
from tests import builders

PER_ROW = 50  # cells of one number of CR3s


def many(results: int, *, turns: int, samples: int, emulated: bool, seed: object, slower: float = 0.0) -> Record:
    """A record of so many results: those of an emulated host repeat, those of a real one are noisy."""
    random = Random(f"{seed}")
    cells = [Cell(Setup.EPTPS, 1 + n % PER_ROW, eptps=1 + n // PER_ROW) for n in range(results // turns)]
    record = builders.record(cells, ("host",), turns=turns, emulated=emulated, noise=0.004, slower=slower, seed=seed)
    spread = 0.0 if emulated else 0.004
    timed = (
        replace(
            result,
            samples=tuple(round(result.samples[0] * (1 + spread * random.random())) for _ in range(samples)),
        )
        for result in record.results
    )
    return replace(record, results=tuple(timed))


FORMS: dict[str, Callable[[int, object, float], Record]] = {
    "emulated": lambda results, seed, slower: many(
        results, turns=1, samples=1, emulated=True, seed=seed, slower=slower
    ),
    "real": lambda results, seed, slower: many(results, turns=5, samples=100, emulated=False, seed=seed, slower=slower),
}


@pytest.mark.slow
@pytest.mark.parametrize("slower", [0.0, 0.05])
@pytest.mark.parametrize("form", FORMS)
def test_four_times_the_results_take_four_times_as_long(tmp_path: Path, form: str, slower: float) -> None:
    taken = []
    for results in (2000, 8000):
        names = [str(tmp_path / f"{results}{side}.json") for side in "ab"]
        for name, part in zip(names, (0.0, slower), strict=True):
            save(FORMS[form](results, name, part), name)
        started = time.process_time()
        found = run(Request(names[0], names[1], None, None, False))
        lines = comparison_lines(found[""])
        taken.append(time.process_time() - started)
        assert len(lines) > results // (5 if form == "real" else 1)
    assert taken[1] < 8 * taken[0], taken
    assert taken[1] < 20, taken  # it is 1 to 2 seconds: twenty are another way of doing it
