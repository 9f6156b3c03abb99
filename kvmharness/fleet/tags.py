"""What a machine of a fleet is: found out by its worker, told to whoever has jobs, read there."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache as cache_results

from kvmharness import __version__
from kvmharness.hosts import catalogue
from kvmharness.lab.image.interpreter import image_contents
from kvmharness.lab.machines.emulator import emulated_description
from kvmharness.lab.steps import fields_of
from kvmharness.results.jsonread import Fields, integer, parse, text, text_map
from kvmharness.system import cache

PLENTY = 1e9
"""Of a resource that is not used up, but tells one worker from another."""
EMULATOR = "emulator"


@dataclass(frozen=True, slots=True)
class Tags:
    """A machine of a fleet.

    Attributes:
        name: what it is called.
        version: of the tool there.
        image: of what emulated hosts are given there besides the kernel: equal where the same job gives the same.
        cores: how many emulated hosts may be at work there at the same time.
        emulated: emulator, version and CPU model of each emulated host that it can start, by the host's name.
    """

    name: str
    version: str
    image: str
    cores: int
    emulated: Mapping[str, str]

    def resources(self) -> dict[str, float]:
        """As Dask counts them."""
        return {EMULATOR: float(self.cores)} | {self.resource(host): PLENTY for host in self.emulated}

    def resource(self, host: str) -> str:
        """What stands for an emulated host as it is here: jobs give the same wherever this is the same."""
        return f"{host} {cache.digest(self.image, self.emulated[host])}"

    def to_json(self) -> str:
        """As it travels."""
        return json.dumps(fields_of(self))

    @classmethod
    def from_json(cls, document: object) -> "Tags":
        """The inverse of :meth:`to_json`.

        Raises:
            ShapeError: naming the place.
        """
        with Fields(parse(text(document, "tags").encode(errors="surrogatepass"))) as top:
            return cls(
                name=top.take("name", text),
                version=top.take("version", text),
                image=top.take("image", text),
                cores=top.take("cores", integer),
                emulated=top.take("emulated", text_map),
            )


@cache_results
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
    return Tags(name, __version__, own_image(), cores, emulated)
