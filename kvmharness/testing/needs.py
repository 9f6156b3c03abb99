"""What a test needs of its host, and where it is therefore to run."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn

import pytest

from kvmharness.errors import UsageError
from kvmharness.hosts import catalogue
from kvmharness.hosts.facts import HostFacts, facts
from kvmharness.hosts.needs import Unmet, all_unmet, check_names
from kvmharness.kvm.capabilities import Capabilities, capabilities
from kvmharness.kvm.system import Kvm
from kvmharness.lab.machines.own import identify

ALIASES = ("kvm", "nested_vmx", "nested_svm")
"""Markers that stand for the need of the same name."""

FACTS = pytest.StashKey[HostFacts]()
"""The facts of this host, found once a session."""

CAPABILITIES = pytest.StashKey[Capabilities]()

# What a host that has one need has, too: whoever requires the first means the others as well.
_IMPLIED = {"nested": ("kvm",), "nested_vmx": ("nested", "kvm"), "nested_svm": ("nested", "kvm")}

_SHOWN = ("nested", "ept", "npt", "vpid", "tdp_mmu")

Params = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a test runs.

    Attributes:
        lacks: what this host lacks of its needs; not empty: it cannot run here.
        host: the emulated host that it runs in, for example ``vmx:skylake``; empty for here, or nowhere.
        params: module parameters that the emulated host loads KVM with for it.
        why_not: in one sentence, when it runs nowhere.
    """

    lacks: tuple[Unmet, ...] = ()
    host: str = ""
    params: Params = ()
    why_not: str = ""


def host_facts(config: pytest.Config) -> HostFacts:
    """The facts of this host, found the first time that they are asked for."""
    if FACTS not in config.stash:
        config.stash[FACTS] = facts()
    return config.stash[FACTS]


def host_capabilities(config: pytest.Config, kvm: Kvm) -> Capabilities:
    """What this host's KVM offers to guests, asked the first time that it is wanted."""
    if CAPABILITIES not in config.stash:
        config.stash[CAPABILITIES] = capabilities(kvm)
    return config.stash[CAPABILITIES]


class Session:
    """Places the tests of one session.

    Args:
        config: of the session.
        required: names of needs that must be met.

    Raises:
        UsageError: an option names something that does not exist.
    """

    def __init__(self, config: pytest.Config, required: Sequence[str]) -> None:
        check_names(required)
        spec, emulator = (str(config.getoption(name)) for name in ("kvm_host", "kvm_emulator"))
        if emulator and not spec:
            raise UsageError("--kvm-emulator without --kvm-host", "Name the host: --kvm-host vmx or svm, for example.")
        if emulator:
            identify(emulator)
        self._config = config
        self._emulated = catalogue.named(spec).name if spec else ""

    def place(self, item: pytest.Item) -> Place:
        """Where the test runs.

        Raises:
            UsageError: a marker names something that cannot be needed.
        """
        here = host_facts(self._config)
        params = item.callspec.params if hasattr(item, "callspec") else {}
        # Inside an emulated host the outer session has chosen already.
        wanted = "" if here.emulated else params.get("kvm_host", "")
        return place(_needs(item), here, self._emulated, wanted)


def place(needs: tuple[str, ...], here: HostFacts, emulated: str, wanted_host: str) -> Place:
    """Decides where a test runs.

    Args:
        needs: of the test.
        here: the facts of this host.
        emulated: the emulated host of ``--kvm-host``; empty without.
        wanted_host: the emulated host that the test itself names, or empty.
    """
    if wanted_host:
        if not emulated:
            return Place(why_not=f"it runs in the emulated host {wanted_host}: pytest --kvm-host {wanted_host}")
        params, missing = _offer(wanted_host, needs)
        if missing:
            return Place(why_not=f"the emulated host {wanted_host} does not offer {', '.join(missing)}")
        return Place(host=wanted_host, params=params)
    lacks = all_unmet(needs, here)
    if not lacks:
        return Place()
    if emulated:
        params, missing = _offer(emulated, needs)
        if not missing:
            return Place(lacks, emulated, params)
    return Place(lacks, why_not="; ".join([*sentences(lacks), *_way_out(needs, emulated)]))


def sentences(lacks: Iterable[Unmet]) -> list[str]:
    """What a host lacks, and how to get it."""
    return [f"{lack.need}: {lack.reason}" + (f"; {lack.fix}" if lack.fix else "") for lack in lacks]


def skip_or_fail(lacks: Iterable[Unmet], why_not: str, required: Iterable[str]) -> NoReturn:
    """Ends a test that cannot run: it fails where one of the needs that it lacks is required, and is skipped otherwise.

    Args:
        lacks: what the host does not meet.
        why_not: in one sentence.
        required: names of needs that must be met.
    """
    must = {need for name in required for need in (name, *_IMPLIED.get(name, ()))}
    if must.intersection(lack.need for lack in lacks):
        pytest.fail(f"required, but not there: {why_not}", pytrace=False)
    pytest.skip(why_not)


def header(config: pytest.Config, places: Iterable[Place]) -> list[str]:
    """The facts that matter to a reader of the session's output."""
    here = host_facts(config)
    modules = ("kvm", here.vendor_module)
    parameters = [
        f"{name}={value}"
        for name in _SHOWN
        for module in modules
        if (value := here.parameter(f"{module}.{name}")) is not None
    ]
    facts_line = [
        f"Linux {here.kernel_release}",
        here.cpu_model,
        f"{here.kvm.path} {here.kvm.state}",
        here.vendor_module or "no vendor module",
        *parameters,
    ]
    lines = ["kvm: " + ", ".join(facts_line)]
    hosts: dict[str, int] = {}
    for one in places:
        if one.host:
            hosts[one.host] = hosts.get(one.host, 0) + 1
    lines += [f"kvm: {count} tests run in the emulated host {name}" for name, count in hosts.items()]
    return lines


def _needs(item: pytest.Item) -> tuple[str, ...]:
    """What the test's markers name, each once."""
    wanted: dict[str, None] = {}
    for mark in item.iter_markers():
        if mark.name == "needs":
            check_names(mark.args)
            wanted |= dict.fromkeys(mark.args)
        elif mark.name in ALIASES:
            wanted[mark.name] = None
    return tuple(wanted)


def _offer(host: str, needs: tuple[str, ...]) -> tuple[Params, tuple[str, ...]]:
    """What KVM must be loaded with there, and what the host does not offer."""
    params, missing = catalogue.named(host).offer(needs)
    return tuple(sorted(params.items())), missing


def _way_out(needs: tuple[str, ...], emulated: str) -> Iterator[str]:
    """The emulated host that has everything, or that the given one has not."""
    if emulated:
        yield f"the emulated host {emulated} does not offer {', '.join(_offer(emulated, needs)[1])} either"
    elif found := next((host.name for host in catalogue.HOSTS if not host.offer(needs)[1]), None):
        yield f"pytest --kvm-host {found} runs it in an emulated host"
