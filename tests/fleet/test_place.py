"""Addresses: without certificates nobody talks to another machine."""

import shlex
import subprocess

import pytest

from kvmharness.errors import ExitCode, UsageError
from kvmharness.fleet import place
from kvmharness.fleet.place import Scheduler


@pytest.fixture
def certificates(tmp_path):
    for name in place.FILES:
        (tmp_path / name).write_text("x")
    return tmp_path


@pytest.mark.parametrize(
    "address", ["tcp://127.0.0.1:8786", "tcp://127.9.9.9:1", "tcp://localhost:8786", "tcp://[::1]:8786"]
)
def test_on_the_loopback_nothing_is_needed(address):
    assert Scheduler(address).security() is None
    assert Scheduler(address).on_loopback


@pytest.mark.parametrize(
    "address", ["tcp://10.0.0.1:8786", "tcp://host:8786", "tcp://0.0.0.0:8786", "tcp://[2001:db8::1]:8786"]
)
def test_without_tls_no_other_machine_is_talked_to(address, certificates):
    with pytest.raises(UsageError, match="without TLS anybody on the way may run programs there") as caught:
        Scheduler(address, certificates)
    assert "openssl req" in caught.value.hint
    assert caught.value.exit_code == ExitCode.USAGE


def test_tls_takes_certificates(certificates):
    with pytest.raises(UsageError, match="takes certificates"):
        Scheduler("tls://host:8786")
    assert not Scheduler("tls://host:8786", certificates).on_loopback
    (certificates / "key.pem").unlink()
    with pytest.raises(UsageError, match=r"holds no key\.pem"):
        Scheduler("tls://host:8786", certificates)


@pytest.mark.parametrize(
    "address",
    [
        "",
        "host",
        "host:8786",
        "http://127.0.0.1:80",
        "tcp://127.0.0.1",
        "tcp://:8786",
        "tls://h:x",
        "tls://h:99999",
        "tcp://[",
    ],
)
def test_what_is_no_address_is_refused(address, certificates):
    with pytest.raises(UsageError, match="is not the address of a scheduler"):
        Scheduler(address, certificates)


@pytest.mark.slow
def test_the_commands_make_certificates_that_the_authority_has_signed(tmp_path):
    for line in place.HOW.splitlines()[1:]:
        subprocess.run(shlex.split(line), cwd=tmp_path, check=True, capture_output=True)
    verify = ["openssl", "verify", "-CAfile", "ca.pem", "cert.pem"]
    assert subprocess.run(verify, cwd=tmp_path, check=True, capture_output=True, text=True).stdout == "cert.pem: OK\n"
    assert Scheduler("tls://127.0.0.1:8786", tmp_path).security().require_encryption
