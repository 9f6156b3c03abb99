"""doctor: what this host can do, what it lacks, and how to get it. Changes nothing."""

import argparse
import json
import os
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from kvmharness import __version__
from kvmharness.cli.options import Verbs, verb
from kvmharness.cli.output import Output
from kvmharness.errors import ExitCode
from kvmharness.hosts import catalogue
from kvmharness.hosts.facts import HostFacts, facts
from kvmharness.hosts.kernelconfig import config_hash
from kvmharness.hosts.needs import NEEDS, unmet
from kvmharness.measure.spoilers import Finding, findings, snapshot
from kvmharness.system.packages import KERNEL_BUILD, install_command, missing


def add(verbs: Verbs) -> None:  # type: ignore[valid-type]
    """Registers the verb."""
    made = verb(
        verbs,
        "doctor",
        read,
        act,
        "show what this host can do, what it lacks and how to get it",
        "Changes nothing. Ends with 0 when the nested matrix can run, here or in an emulated host, with 4 otherwise.",
        examples=(
            "kvmharness doctor",
            "kvmharness doctor --json",
        ),
    )
    made.add_argument("--json", action="store_true", help="print one JSON document instead")


@dataclass(frozen=True, slots=True)
class Request:
    """How to show the diagnosis.

    Attributes:
        as_json: prints JSON.
    """

    as_json: bool


def read(options: argparse.Namespace) -> Request:
    """What is asked for."""
    return Request(options.json)


def act(request: Request, output: Output) -> int:
    """Prints the diagnosis."""
    allowed = sorted(os.sched_getaffinity(0))
    found = diagnosis(facts(), findings(snapshot(allowed[:1])))
    if request.as_json:
        output.document(json.dumps(found, indent=1, sort_keys=True))
    else:
        for line in lines(found, output):
            output.result(line)
    runs = found["runs"]
    return ExitCode.PASS if any(runs[name] for name in ("nested", *_emulated())) else ExitCode.SKIPPED


def _emulated() -> dict[str, catalogue.EmulatedHost]:
    """The host that stands for all of a vendor's, by the need that tells whether it can be started."""
    return {f"emulated_{vendor}": catalogue.first(vendor) for vendor in catalogue.vendors()}


def diagnosis(host: HostFacts, spoilers: Sequence[Finding] = ()) -> dict[str, Any]:
    """All that doctor knows, as plain data.

    Args:
        host: what it is.
        spoilers: what may spoil figures on it.
    """
    needs = {}
    for name, need in NEEDS.items():
        lacks = unmet(name, host)
        needs[name] = {"summary": need.summary, "met": lacks is None}
        if lacks:
            needs[name] |= {"reason": lacks.reason, "fix": lacks.fix, "way_out": lacks.way_out}
    return {
        "tool_version": __version__,
        "host": host.to_json() | {"config_hash": config_hash()},
        "needs": needs,
        "spoilers": [finding._asdict() for finding in spoilers],
        "missing_tools": {need: host.emulator.lacks() for need, host in _emulated().items()}
        | {"kernel_build": missing(KERNEL_BUILD)},
        "missing_python": missing_python(),
        "runs": {
            "l1_alone": needs["kvm"]["met"],
            "nested": needs["nested"]["met"],
        }
        | {need: needs[need]["met"] for need in _emulated()},
    }


def missing_python() -> dict[str, list[str]]:
    """What the package's own metadata asks for and this Python lacks, by extra; nothing where it is not installed."""
    found: dict[str, list[str]] = {}
    with suppress(metadata.PackageNotFoundError):
        for requirement in metadata.requires("kvmharness") or ():
            asked = re.fullmatch(r"""([\w.-]+).*; *extra *== *["'](\w+)["']""", requirement)
            if asked and asked[2] != "all" and not _is_installed(asked[1]):
                found.setdefault(asked[2], []).append(asked[1])
    return found


def _is_installed(distribution: str) -> bool:
    try:
        metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def lines(found: dict[str, Any], output: Output) -> list[str]:
    """The diagnosis as text."""
    return [
        *_host_lines(found["host"]),
        "",
        "Needs",
        *(line for name, need in found["needs"].items() for line in _need_lines(name, need, output)),
        "",
        "What may spoil times here; `run` finds more while it runs",
        *(_spoiler_lines(found["spoilers"], output) or ["  nothing that is known"]),
        "",
        "Emulated hosts",
        *_tool_lines(found, output),
        "",
        "What can run",
        *_run_lines(found["runs"], output),
    ]


def _host_lines(host: dict[str, Any]) -> list[str]:
    config = (host["config_hash"] or "cannot be read")[:12]
    below = "no hypervisor below" if host["bare_metal"] else f"below: {host['emulated'] or 'a hypervisor'}"
    kvm = host["kvm"]
    state = kvm["state"] + (f" (errno {kvm['errno']})" if kvm["errno"] else "")
    lines = [
        "Host",
        f"  kernel      {host['kernel_release']}, config {config}",
        f"  CPU         {host['cpu_model']} ({host['cpu_vendor']}), microcode {host['microcode']}, {below}",
        f"  {kvm['path']:<11} {state}, driven by {host['vendor_module'] or 'no module that shows up in /sys/module'}",
    ]
    interesting = ("nested", "ept", "npt", "vpid", "enable_shadow_vmcs", "unrestricted_guest", "pml", "tdp_mmu")
    shown = [
        f"{name}={value}" for name, value in host["module_parameters"].items() if name.partition(".")[2] in interesting
    ]
    if shown:
        lines.append(f"  parameters  {' '.join(shown)}")
    paranoid = host["perf_event_paranoid"]
    lines.append(f"  perf        {'no perf events' if paranoid is None else f'perf_event_paranoid={paranoid}'}")
    return lines


def _need_lines(name: str, need: dict[str, Any], output: Output) -> list[str]:
    if need["met"]:
        return [f"  {output.paint('yes', 'green')}  {name:<13} {need['summary']}"]
    lines = [f"  {output.paint('no ', 'yellow')}  {name:<13} {need['reason']}"]
    lines += [f"{'':20}{output.paint(f'-> {advice}', 'dim')}" for advice in (need["fix"], need["way_out"]) if advice]
    return lines


def _spoiler_lines(spoilers: Sequence[dict[str, str]], output: Output) -> list[str]:
    lines = []
    for each in spoilers:
        lines.append(f"  {output.paint(each['name'], 'yellow')}: {each['size']}; {each['why']}")
        fix = output.paint(f"-> {each['fix']}", "dim")
        lines.append(f"{'':20}{fix}")
    return lines


def _tool_lines(found: dict[str, Any], output: Output) -> list[str]:
    lines = []
    titles = {need: f"{host.emulator.title} ({host.vendor})" for need, host in _emulated().items()}
    for name, title in (titles | {"kernel_build": "kernel build"}).items():
        if tools := found["missing_tools"][name]:
            lines.append(f"  {output.paint('no ', 'yellow')}  {title:<13} lacks {', '.join(tools)}")
            lines.append(f"{'':20}{output.paint(f'-> {install_command(tools.values())}', 'dim')}")
        else:
            lines.append(f"  {output.paint('yes', 'green')}  {title:<13} everything is installed")
    for extra, names in found["missing_python"].items():
        lines.append(f"  {output.paint('no ', 'yellow')}  Python extra  {extra}: lacks {', '.join(names)}")
        lines.append("".ljust(20) + output.paint(f"-> pip install 'kvmharness[{extra}]'", "dim"))
    return lines


def _run_lines(runs: dict[str, bool], output: Output) -> list[str]:
    offers = (
        ("l1_alone", "L1 alone (set-up d), on this host", "kvmharness run d"),
        ("nested", "the whole matrix, on this host", "kvmharness run"),
        *(
            (need, f"the whole matrix, in an emulated {host.vendor.upper()} host", f"kvmharness run --host {host.spec}")
            for need, host in _emulated().items()
        ),
    )
    return [
        f"  {output.paint('yes', 'green')}  {what:<42} {command}"
        if runs[name]
        else f"  {output.paint('no ', 'yellow')}  {what}"
        for name, what, command in offers
    ]
