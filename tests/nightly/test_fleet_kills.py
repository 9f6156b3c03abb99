"""SIGKILL of a worker, the scheduler and the client, at random moments: no result is lost, none is counted twice."""

import random
import subprocess
import sys
import time

import pytest

from kvmharness.hosts import catalogue
from tests.fleet.cluster import Cluster, plain, wait, without_fleet

pytest.importorskip("distributed", reason="Dask is not installed: pip install kvmharness[fleet]")
pytestmark = [pytest.mark.needs(f"emulated_{catalogue.first().vendor}"), pytest.mark.timeout(3600)]

KILLS = 10  # of each
TAKES_S = 10.0


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return without_fleet(tmp_path_factory.mktemp("alone"))


@pytest.fixture
def cluster():
    made = Cluster()
    yield made
    made.close()


@pytest.mark.parametrize("who", ["w1", "scheduler"])
def test_what_is_killed_of_a_fleet_costs_no_result(tmp_path, alone, cluster, who):
    chance = random.Random(who)
    for number in range(KILLS):
        record = tmp_path / f"{number}.json"
        client = cluster.command(json_file=record)
        time.sleep(chance.uniform(0.5, TAKES_S))
        cluster.kill(who)
        time.sleep(chance.uniform(0.0, 2.0))
        cluster.start(who)
        assert wait(client) == 0
        assert plain(record) == alone


def test_a_client_that_is_killed_leaves_what_it_had_and_the_fleet_is_free_for_the_next(tmp_path, alone, cluster):
    chance = random.Random("client")
    for number in range(KILLS):
        record = tmp_path / f"{number}.json"
        client = cluster.command(json_file=record)
        try:
            wait_until = time.monotonic() + chance.uniform(0.5, TAKES_S)
            while client.poll() is None and time.monotonic() < wait_until:
                time.sleep(0.05)
        finally:
            client.kill()
            client.wait()
        kept = record.with_name(record.name + ".part")
        resume = ("--resume", str(kept)) if kept.exists() else ()
        if not record.exists():
            assert wait(cluster.command(*resume, json_file=record)) == 0
        assert plain(record) == alone


def test_what_a_killed_client_had_begun_is_given_up_by_its_worker(tmp_path, cluster):
    client = cluster.command(json_file=tmp_path / "record.json")
    time.sleep(TAKES_S)
    client.kill()
    client.wait()
    deadline = time.monotonic() + 60
    while children_of(cluster) and time.monotonic() < deadline:
        time.sleep(0.5)
    assert not children_of(cluster)


def children_of(cluster):
    """Jobs that workers of this cluster are doing."""
    workers = [str(cluster.processes[name].pid) for name in ("w1", "w2")]
    done = subprocess.run(["ps", "-eo", "ppid=,args="], capture_output=True, text=True, check=True).stdout
    rows = [line.split(None, 1) for line in done.splitlines()]
    return [args for parent, args in rows if parent in workers and f"{sys.executable} -P -m kvmharness.fleet" in args]
