"""Where a fleet is: its scheduler's address, and the certificates without which nobody talks to another machine."""

import ipaddress
import ssl
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kvmharness.errors import UsageError

LOCAL = "local"
"""The fleet of processes on this machine that is started for one run."""

FILES = ("ca.pem", "cert.pem", "key.pem")
_OPENSSL = (
    "openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=kvmharness-ca -keyout ca-key.pem -out ca.pem",
    "openssl req -newkey rsa:3072 -nodes -subj /CN=kvmharness -keyout key.pem -out cert.csr",
    "openssl x509 -req -days 365 -in cert.csr -CA ca.pem -CAkey ca-key.pem -CAcreateserial -out cert.pem",
)
HOW = "Make them once, and copy ca.pem, cert.pem and key.pem to every machine of the fleet:\n  " + "\n  ".join(_OPENSSL)


@dataclass(frozen=True, slots=True)
class Scheduler:
    """A Dask scheduler.

    Attributes:
        address: tcp://127.0.0.1:8786, tls://HOST:8786.
        tls: the folder with :data:`FILES`; None on the loopback.

    Raises:
        UsageError: not an address, or one of another machine without certificates.
    """

    address: str
    tls: Path | None = None

    def __post_init__(self) -> None:
        scheme, host = _parts(self.address)
        if scheme == "tcp":
            if not is_loopback(host):
                raise UsageError(
                    f"{self.address}: without TLS anybody on the way may run programs there; it is refused for "
                    "anything but 127.0.0.1",
                    f"Use tls://, and name the folder with the certificates: --tls FOLDER. {HOW}",
                )
            return
        if self.tls is None:
            raise UsageError(f"{self.address} takes certificates", f"Name their folder: --tls FOLDER. {HOW}")
        for name in FILES:
            if not (self.tls / name).is_file():
                raise UsageError(f"{self.tls} holds no {name}", HOW)

    @property
    def on_loopback(self) -> bool:
        """Whether nobody else can reach it."""
        return is_loopback(_parts(self.address)[1])

    def refused(self, error: BaseException | None) -> UsageError | None:
        """What is wrong where a connection failed for its certificates; None where it failed for something else."""
        while error is not None:
            if isinstance(error, ssl.SSLError):
                return UsageError(
                    f"{self.address} and {self.tls} do not take each other's certificates: {error.reason or error}",
                    "All machines of a fleet have theirs of one authority, ca.pem.",
                )
            error = error.__cause__ or error.__context__
        return None

    def security(self) -> Any:
        """What Dask is to be given; None without TLS."""
        from distributed.security import Security

        if self.tls is None or self.address.startswith("tcp:"):
            return None
        authority, certificate, key = (str(self.tls / name) for name in FILES)
        roles = {
            f"tls_{role}_{what}": path
            for role in ("client", "worker", "scheduler")
            for what, path in (("cert", certificate), ("key", key))
        }
        return Security(tls_ca_file=authority, require_encryption=True, **roles)


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _parts(address: str) -> tuple[str, str]:
    """Scheme and host. Raises: UsageError, it is not an address with a port."""
    with suppress(ValueError):  # brackets without an end, a port that is no number
        parts = urlsplit(address)
        if parts.scheme in ("tcp", "tls") and parts.hostname and parts.port:
            return parts.scheme, parts.hostname
    raise UsageError(
        f"{address!r} is not the address of a scheduler", "Such as tls://HOST:8786, or tcp://127.0.0.1:8786."
    )
