"""What a machine of a fleet is: found out by its worker, told to whoever has jobs, read there."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from kvmharness import __version__
from kvmharness.hosts import catalogue
from kvmharness.hosts.facts import HostFacts, facts
from kvmharness.hosts.needs import unmet
from kvmharness.lab.image.interpreter import image_contents
from kvmharness.lab.machines.emulator import emulated_description
from kvmharness.results.jsonread import Fields, ShapeError, an_object, integer, parse, text, text_map
from kvmharness.system import cache

PLENTY = 1e9
"""Of a resource that is not used up, but tells one worker from another."""
EMULATOR, SILICON = "emulator", "silicon"


@dataclass(frozen=True, slots=True)
class Tags:
    """A machine of a fleet.

    Attributes:
        name: what it is called.
        version: of the tool there.
        image: of what emulated hosts are given there besides the kernel: equal where the same job gives the same.
        cores: how many emulated hosts may be at work there at the same time.
        emulated: emulator, version and CPU model of each emulated host that it can start, by the host's name.
        host: what it is itself.
    """

    name: str
    version: str
    image: str
    cores: int
    emulated: Mapping[str, str]
    host: Mapping[str, object] = field(default_factory=dict)

    @property
    def facts(self) -> HostFacts:
        """What it is itself."""
        return HostFacts.from_json(self.host)

    def resources(self) -> dict[str, float]:
        """As Dask counts them."""
        emulated = {self.resource(host): PLENTY for host in self.emulated}
        silicon = {SILICON: 1.0, f"machine {self.name}": PLENTY} if not unmet("kvm", self.facts) else {}
        return {EMULATOR: float(self.cores), **emulated, **silicon}

    def resource(self, host: str) -> str:
        """What stands for an emulated host as it is here: jobs give the same wherever this is the same."""
        return f"{host} {cache.digest(self.image, self.emulated[host])}"

    def lacks(self, needs: Iterable[str]) -> str:
        """Why it does not meet needs itself, in words; empty when it does. Raises: UsageError, no such need."""
        missing = [str(each) for need in needs if (each := unmet(need, self.facts))]
        return "; ".join(missing)

    def to_json(self) -> str:
        """As it travels."""
        return json.dumps({name: getattr(self, name) for name in Tags.__match_args__})

    @classmethod
    def from_json(cls, document: object) -> "Tags":
        """The inverse of :meth:`to_json`.

        Raises:
            ShapeError: naming the place.
        """
        with Fields(parse(text(document, "tags").encode(errors="surrogatepass"))) as top:
            tags = cls(
                name=top.take("name", text),
                version=top.take("version", text),
                image=top.take("image", text),
                cores=top.take("cores", integer),
                emulated=top.take("emulated", text_map),
                host=top.take("host", an_object),
            )
        try:
            _ = tags.facts
        except (KeyError, TypeError, ValueError) as error:
            raise ShapeError(f"host: {error}") from None
        return tags


def own_image() -> str:
    """The image of this machine; see :class:`Tags`."""
    return cache.digest(__version__, image_contents())


def own_tags(name: str, cores: int | None = None) -> Tags:
    """Those of this machine.

    Args:
        name: what it is to be called.
        cores: how many emulated hosts at the same time; as many as there are cores when None.
    """
    there = [host for host in catalogue.HOSTS if not host.emulator.lacks()]
    emulated = {host.name: emulated_description(host.name) for host in there}
    cores = cores or len(os.sched_getaffinity(0))
    return Tags(name, __version__, own_image(), cores, emulated, facts().to_json())
