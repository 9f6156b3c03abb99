"""QEMU's migration stream put right, and its machine protocol with a program that is not QEMU."""

import json
import sys
import time

import pytest

from kvmharness.errors import LostMachineError
from kvmharness.lab.machines.snapshot import qemu
from kvmharness.lab.machines.snapshot.state import NoSnapshotError


def test_a_stopped_machine_is_to_run():
    stream = b"QEVM\0\0\0\3" + b"guest-panicked\0" + b"more"
    changed = qemu.running(stream)
    assert changed == b"QEVM\0\0\0\3" + b"running\0\0\0\0\0\0\0\0" + b"more"
    assert len(changed) == len(stream)


@pytest.mark.parametrize("stream", [b"", b"QEVM running\0", b"guest-panicked\0" * 2])
def test_another_stream_is_not_guessed_at(stream):
    with pytest.raises(NoSnapshotError, match="does not say where the machine stopped"):
        qemu.running(stream)


# Stands for QEMU: takes orders as it does, and writes the stream where it is told to.
PRETENDER = """
import json, sys
def say(**what):
    print(json.dumps(what), flush=True)
say(QMP={})
for line in sys.stdin:
    order = json.loads(line)
    with open("orders", "a") as file:
        file.write(order["execute"] + "\\n")
    while "flood" in sys.argv:
        print("noise" * 9999, end=chr(10) if len(sys.argv[1]) else "")
    if "noise" in sys.argv:
        print("KVMH \\0\\n[1]\\n" + "[" * 99_999)
    if order["execute"] == sys.argv[1]:
        if sys.argv[2] == "die":
            sys.exit("no more")
        say(error={"desc": "not today"})
        continue
    if order["execute"] == "migrate":
        with open(order["arguments"]["uri"].removeprefix("exec:cat > "), "wb") as file:
            file.write(b"x guest-panicked\\0 y")
    say(**{"return": {"status": "completed"} if order["execute"] == "query-migrate" else {}})
    if order["execute"] == "qmp_capabilities":
        say(event="RESUME")
        say(event="GUEST_PANICKED", data={"action": "pause"})
    if order["execute"] == "quit":
        break
"""


def save(folder, order="", how=""):
    qemu.save([sys.executable, "-c", PRETENDER, order, how], folder)


def test_a_host_is_saved(tmp_path):
    save(tmp_path)
    assert (tmp_path / "state/stream").read_bytes() == b"x running\0\0\0\0\0\0\0\0 y"
    orders = (tmp_path / "orders").read_text().split()
    assert orders == ["qmp_capabilities", "migrate-set-capabilities", "migrate", "query-migrate", "quit"]


def test_a_refusal_is_told(tmp_path):
    with pytest.raises(LostMachineError, match="QEMU refuses migrate: not today"):
        save(tmp_path, "migrate", "refuse")


def test_an_early_end_is_told_with_its_last_words(tmp_path):
    with pytest.raises(LostMachineError, match="before the host was saved") as caught:
        save(tmp_path, "qmp_capabilities", "die")
    assert "no more" in caught.value.hint


def test_what_the_guest_says_in_between_is_no_answer(tmp_path):
    save(tmp_path, how="noise")
    assert (tmp_path / "state/stream").exists()


@pytest.mark.slow
@pytest.mark.parametrize("order", ["lines", ""])
def test_a_guest_that_never_stops_is_not_waited_for(tmp_path, monkeypatch, order):
    monkeypatch.setattr(qemu, "SAVE_TIMEOUT_S", 1.0)
    began = time.monotonic()
    with pytest.raises(LostMachineError, match="not ready in time"):
        save(tmp_path, order, "flood")
    assert time.monotonic() - began < 5


def test_a_restored_machine_takes_its_orders_from_a_file(tmp_path):
    command = qemu.restore_command(["qemu-system-x86_64", "-m", "512"], tmp_path)
    assert command[:4] == ["sh", "-c", 'exec "$@" <orders', "sh"]
    assert command[4:] == ["qemu-system-x86_64", "-m", "512", "-incoming", "defer", "-qmp", "stdio"]
    orders = [json.loads(line) for line in (tmp_path / "orders").read_bytes().splitlines()]
    assert [order["execute"] for order in orders] == [
        "qmp_capabilities",
        "migrate-set-capabilities",
        "migrate-incoming",
    ]
    assert orders[2]["arguments"] == {"uri": "exec:cat state/stream"}
