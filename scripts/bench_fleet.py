"""Measures what a fleet costs: what Dask adds to a job, and how busy it keeps many workers, which are simulated.

A simulated worker is a thread of this process that sleeps for half the time that such a job takes here; the
scheduler, the messages and what they carry are real.
"""

import time
from collections.abc import Sequence
from random import Random
from statistics import median
from typing import Any

from bench_emulated import in_turns
from bench_figures import Result

from kvmharness.cells.cell import Cell
from kvmharness.cells.matrix import validation_matrix
from kvmharness.fleet.answers import Answer, write_answer
from kvmharness.fleet.tags import EMULATOR
from kvmharness.fleet.wire import Boot, Order, hash_of, write_order
from kvmharness.lab.kernels import build as kernels
from kvmharness.lab.steps import Call
from kvmharness.results.record import VariantId
from kvmharness.validation import snapshots
from kvmharness.validation.campaign import Variant, run_in
from kvmharness.validation.turns import PIECE

CELLS, WORKERS = 10_000, 64
IDLE_AT_MOST, START_AT_MOST, COST_AT_MOST = 0.3, 0.2, 0.05  # the last round leaves some with nothing to do
_FASTER = 2  # than it was measured; more, and what is real would be too large beside it
_CALLS = 50
_EVENTS = 4  # of a cell, of so many bytes
_EVENT_BYTES = 2000


def fleet(runs: int) -> list[Result]:
    """What 10,000 cells over 64 workers come to, with jobs as long as they are here."""
    boot_s, cell_s = _measured(runs)
    from distributed.client import Client
    from distributed.deploy.local import LocalCluster

    chance = Random(1)
    # Cells differ: a set-up with many roots takes twice as long as one with few.
    lengths = [boot_s + sum(cell_s * chance.uniform(0.6, 1.4) for _ in range(PIECE)) for _ in range(CELLS // PIECE)]
    with (
        LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=False,
            host="127.0.0.1",
            protocol="tcp://",
            dashboard_address="127.0.0.1:0",
            worker_dashboard_address="127.0.0.1:0",
            resources={EMULATOR: 1.0},
            memory_limit=0,
            silence_logs=50,
        ) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        document, file = _job()
        data = client.submit(bytes, file, key="file")
        cost = _cost(client, document, data)
        began = time.perf_counter()
        futures = [
            client.submit(_simulated, each / _FASTER, document, data, resources={EMULATOR: 1}, pure=False)
            for each in lengths
        ]
        ends = _ends(client, futures, began)
    whole = ends[-1]
    idle = 1 - sum(lengths) / _FASTER / WORKERS / whole
    note = (
        f"{len(lengths)} jobs of {PIECE} cells, {boot_s:.2f} s to start and {cell_s:.3f} s a cell as measured here; "
        f"first result after {ends[0] * _FASTER:.0f} s, last one after {whole * _FASTER:.0f} s of simulated time"
    )
    job_s = boot_s + cell_s * PIECE
    return [
        _result(
            f"fleet: idle share of {WORKERS} simulated workers with {CELLS:,} cells", idle, IDLE_AT_MOST, note=note
        ),
        _result("fleet: share of starting in a job's time", boot_s / job_s, START_AT_MOST),
        _result(
            "fleet: what the scheduler adds, against the job",
            cost / job_s,
            COST_AT_MOST,
            ours=f"{cost * 1000:.0f} ms",
            c=f"{job_s:.1f} s",
        ),
    ]


def _result(name: str, value: float, at_most: float, **more: str) -> Result:
    return Result(name, round(value, 3), f"<= {at_most:g}", value <= at_most, **more)


def _measured(runs: int) -> tuple[float, float]:
    """Processor seconds of a job without its cells, and of a cell."""
    kernel = kernels.kernel()
    machine = snapshots.emulated_host(kernel=kernel)
    variant = Variant(VariantId("host", kernel.source), kernel.modules)
    cells = [cell for cell in validation_matrix() if not cell.params][:PIECE]

    def run(some: Sequence[Cell]) -> None:
        run_in(machine, (variant,), ("host",), some, command=(), on_result=lambda result, done, total: None)

    run(cells[:1])  # makes the snapshot, and asks what the host is
    one, many = in_turns(runs, lambda: run(cells[:1]), lambda: run(cells))
    cell_s = (many.processor - one.processor) / (len(cells) - 1)
    return one.processor - cell_s, cell_s


def _job() -> tuple[str, bytes]:
    """A job's document and its files, as large as those of cells are."""
    call = Call("kvmharness.cells.execute:execute", {"cells": "x" * _EVENT_BYTES * PIECE})
    file = bytes(3 << 20)
    return write_order(Order(Boot("vmx:skylake", hash_of(file), {}), (call,), 60.0)), file


def _simulated(seconds: float, document: str, file: bytes) -> str:
    time.sleep(seconds)
    return write_answer(Answer("simulated", ("e" * _EVENT_BYTES,) * _EVENTS * PIECE))


def _cost(client: Any, document: str, data: Any) -> float:
    """Seconds that a job takes which does nothing."""
    times = []
    for _ in range(_CALLS):
        began = time.perf_counter()
        client.submit(_simulated, 0.0, document, data, resources={EMULATOR: 1}, pure=False).result()
        times.append(time.perf_counter() - began)
    return median(times)


def _ends(client: Any, futures: Sequence[Any], began: float) -> list[float]:
    from distributed.client import as_completed

    found = []
    for future in as_completed(futures, loop=client.loop):
        future.result()
        found.append(time.perf_counter() - began)
    return found
