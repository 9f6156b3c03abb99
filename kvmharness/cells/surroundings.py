"""What a host is to a cell: its facts, and what its KVM offers to guests."""

from collections.abc import Callable, Mapping
from typing import Any

from kvmharness.hosts.facts import HostFacts, facts, module_parameters
from kvmharness.kvm.capabilities import Capabilities, capabilities
from kvmharness.kvm.system import Kvm
from kvmharness.lean.dataclasses import dataclass
from kvmharness.measure.clock import tsc_facts


@dataclass(frozen=True, slots=True)
class Surroundings:
    """One host with KVM loaded in one way.

    Attributes:
        facts: of the host.
        offered: by its KVM.
        tsc_problem: why times are not to be trusted there; empty when they are.
    """

    facts: HostFacts
    offered: Capabilities
    tsc_problem: str = ""

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"facts": self.facts.to_json(), "offered": self.offered.to_json(), "tsc_problem": self.tsc_problem}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Surroundings":
        """The inverse of :meth:`to_json`. Raises: KeyError, TypeError, ValueError when it is not that."""
        return cls(
            HostFacts.from_json(data["facts"]), Capabilities.from_json(data["offered"]), str(data["tsc_problem"])
        )

    def for_record(self) -> dict[str, Any]:
        """What a record says about the host."""
        return self.facts.to_json() | {"tsc_problem": self.tsc_problem}


def surroundings() -> Surroundings:
    """Those of the machine it is called on.

    Raises:
        DeviceError: no /dev/kvm.
    """
    here = facts()
    with Kvm.open() as kvm:
        return Surroundings(here, capabilities(kvm), tsc_facts(emulator=here.emulated or "").problem)


def differs(kvm: Kvm, offered: Mapping[str, Any], parameters: Mapping[str, str]) -> str:
    """In what this KVM is not the one that something was planned for; empty when it is."""
    here = capabilities(kvm).to_json()
    wrong = [name for name, value in here.items() if offered[name] != value]
    return ", ".join(wrong if module_parameters() == dict(parameters) else ["parameters", *wrong])


def probe(emit: Callable[[dict[str, Any]], None]) -> None:
    """What a job calls: emits the surroundings as plain data."""
    emit(surroundings().to_json())
