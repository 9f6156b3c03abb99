"""Jobs on other machines, which are processes here: the same record as without them, and refusals on either side."""

import shlex
import subprocess
import sys
import time

import pytest

from kvmharness.fleet import place
from kvmharness.hosts import catalogue
from tests.fleet.cluster import HOST, RUN, Cluster, plain, wait, without_fleet

pytest.importorskip("distributed", reason="Dask is not installed: pip install kvmharness[fleet]")
needs_emulator = pytest.mark.needs(f"emulated_{catalogue.first().vendor}")


def kvmharness(*words):
    argv = [sys.executable, "-P", "-m", "kvmharness", *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    return without_fleet(tmp_path_factory.mktemp("alone"))


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_local_fleet_gives_the_same_record(tmp_path, alone):
    done = kvmharness(*RUN, "--fleet", "local", "--json", str(tmp_path / "record.json"))
    assert done.returncode == 0, done.stderr
    assert "fleet: local-1, " in done.stderr
    assert plain(tmp_path / "record.json") == alone


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_worker_that_is_killed_with_a_job_costs_no_result(tmp_path, alone):
    cluster = Cluster()
    try:
        client = cluster.command(json_file=tmp_path / "record.json")
        time.sleep(8.0)
        cluster.kill("w1")
        assert wait(client) == 0
        assert plain(tmp_path / "record.json") == alone
    finally:
        cluster.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two folders of certificates, of two authorities."""
    folders = []
    for name in ("ours", "theirs"):
        folder = tmp_path_factory.mktemp(name)
        for line in place.HOW.splitlines()[1:]:
            subprocess.run(shlex.split(line), cwd=folder, check=True, capture_output=True)
        folders.append(folder)
    return folders


@needs_emulator
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_certificates_it_works_and_with_others_it_does_not(tmp_path, alone, certificates):
    ours, theirs = certificates
    cluster = Cluster("--tls", str(ours), scheme="tls")
    try:
        assert wait(cluster.command(json_file=tmp_path / "record.json")) == 0
        assert plain(tmp_path / "record.json") == alone
        for words in (("run", "a:3x3", "--host", HOST, "--fleet"), ("worker",)):
            done = kvmharness(*words, cluster.address, "--tls", str(theirs))
            assert done.returncode == 2, done.stderr
            assert done.stderr.count("do not take each other's certificates") == 1
            assert "Traceback" not in done.stderr
    finally:
        cluster.close()


@pytest.mark.parametrize("verb", [("worker",), ("run", "a:3x3", "--fleet")])
def test_another_machine_is_refused_without_certificates(verb):
    done = kvmharness(*verb, "tcp://192.0.2.1:8786")
    assert done.returncode == 2
    assert "without TLS anybody on the way may run programs there" in done.stderr


@pytest.mark.slow
def test_a_scheduler_that_is_not_there_is_said_in_a_message():
    done = kvmharness("run", "a:3x3", "--host", HOST, "--fleet", "tcp://127.0.0.1:1")
    assert done.returncode == 5
    assert done.stderr.count("no scheduler answers at tcp://127.0.0.1:1") == 1
    assert "Traceback" not in done.stderr


def test_an_emulator_of_ones_own_is_not_a_fleets(tmp_path):
    done = kvmharness("run", "a:3x3", "--host", HOST, "--fleet", "tcp://192.0.2.1:1", "--emulator", "/bin/true")
    assert done.returncode == 2
