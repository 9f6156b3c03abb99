"""Figures and facts as all the reports print them."""

import json
import re
from collections.abc import Mapping

from kvmharness.cells.setups import by_letter
from kvmharness.claims.net import TIME_EMULATED
from kvmharness.measure.clock import UNIT_EMULATED
from kvmharness.results.incidents import KernelReport
from kvmharness.results.noise import TOLERANCE
from kvmharness.results.record import FROM_SOURCE, Record
from kvmharness.vendors.names import NAMES

SHOWN_EXITS = 0.005  # per round trip; below, a reason is background and only its sum is shown


def amount(value: float | None) -> str:
    """A count per round trip: exact when whole, else three significant digits, "-" when not known."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value == round(value) else f"{value:.3g}"


def ticks(value: float | None) -> str:
    """A time in the record's unit, thousands separated."""
    return "-" if value is None else f"{value:,.0f}"


def percent(value: float, base: float) -> str:
    """*value* against *base* with its sign; a difference that one decimal cannot show is 0.0%."""
    text = f"{(value / base - 1) * 100:+.1f}%"
    return "0.0%" if text in ("+0.0%", "-0.0%") else text


def exits(by_reason: Mapping[str, float]) -> str:
    """Exits per round trip by reason, for example ``VMRESUME 1 VMCALL 1 VMWRITE 1``."""
    shown = [f"{reason} {amount(count)}" for reason, count in by_reason.items() if count >= SHOWN_EXITS]
    rest = sum(count for count in by_reason.values() if count < SHOWN_EXITS)
    return " ".join([*shown, f"others {amount(rest)}"] if rest else shown) or "-"


def tolerance(record: Record) -> float:
    """The largest relative change of time that counts as none in this record."""
    return TIME_EMULATED if record.unit == UNIT_EMULATED else TOLERANCE


def unit(record: Record) -> str:
    """The unit of time, short enough for a column."""
    return "instr. (emulated)" if record.unit == UNIT_EMULATED else "TSC cycles"


def fact(record: Record, *names: str) -> str:
    """The first of the host facts *names* that the record has, as text; "" when it has none."""
    for name in names:
        value = record.host.get(name)
        if value in (None, "", {}, []):
            continue
        if isinstance(value, dict):
            return ", ".join(f"{key}={item}" for key, item in sorted(value.items()))
        if isinstance(value, list):
            return " ".join(str(item) for item in value)
        return value if isinstance(value, str) else json.dumps(value)
    return ""


def notes(record: Record) -> tuple[str, ...]:
    """What somebody must know about the run; how an oracle sees a kernel, unless that was found in its source."""
    lines = list(record.notes)
    for variant in record.variants:
        view = variant.oracle
        if view is None or view.why == FROM_SOURCE:
            continue
        if view.features is None:
            lines.append(f"the oracle {view.oracle} does not describe {variant.name}, no prediction: {view.why}")
        else:
            has = ", ".join(f"{name} {value}" for name, value in view.features.items())
            lines.append(f"the oracle {view.oracle} predicts for a kernel with {has}, {view.why}")
    return tuple(lines)


def cpu(record: Record) -> str:
    """The host's CPU."""
    return fact(record, "cpu", "cpu_model") or "unknown CPU"


def host(record: Record) -> str:
    """The host's name, as it can be typed."""
    return fact(record, "name", "emulated") or "local"


def file_name(text: str) -> str:
    """A text as a part of a file's name that needs no quotes anywhere."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:60] or "record"


def kernel(record: Record) -> str:
    """The host's kernel."""
    return f"Linux {fact(record, 'kernel_release') or 'unknown'}"


def machine(record: Record) -> str:
    """What the run ran on, in a few words: the emulator when there is one, else the CPU."""
    emulator = fact(record, "emulator", "emulated")
    where = f"emulated host ({emulator})" if emulator else cpu(record)
    return f"{where}, without {nested_paging(record)}" if record.host.get("l0_ept") is False else where


def nested_paging(record: Record) -> str:
    """The vendor's name for second-level paging."""
    cpu_vendor = fact(record, "cpu_vendor")
    return next((vendor.tdp_title for vendor in NAMES if vendor.cpu_vendor == cpu_vendor), NAMES[0].tdp_title)


def setup_name(record: Record, letter: str) -> str:
    """What a set-up is, with the vendor's own names for nested paging."""
    tdp = nested_paging(record)
    return by_letter()[letter].words.format(tdp=tdp, root={"NPT": "nCR3"}.get(tdp, "EPTP"))


def distinct(record: Record) -> list[tuple[KernelReport, int]]:
    """What the kernel complained of, each once, and how many times more it did."""
    seen: dict[tuple[str, str], list[KernelReport]] = {}
    for report in record.reports:
        seen.setdefault((report.headline.partition(" PID: ")[0], report.rip), []).append(report)
    return [(reports[0], len(reports) - 1) for reports in seen.values()]


def complaint(report: KernelReport) -> str:
    """In one line; many a headline begins with its kind."""
    begins = report.headline.startswith(report.kind)
    return report.headline if begins else f"{report.kind}: {report.headline}"


def kernel_reports(record: Record, frames: int = 6) -> list[str]:
    """What the kernel complained of, short: headline, place, RIP and the way there; each said once."""
    lines: list[str] = []
    for first, more in distinct(record):
        lines.append(complaint(first))
        lines.append(f"  in {first.where}{f', and {more} times more' if more else ''}")
        lines += [f"  {what} {value}" for what, value in (("at", first.place), ("RIP", first.rip)) if value]
        if first.trace:
            lines.append(f"  called by {' < '.join(first.trace[:frames])}")
    return lines


def several(count: int, noun: str) -> str:
    """``1 line``, ``2 lines``."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def kernel_said(record: Record) -> list[str]:
    """The other lines of the kernel's log."""
    told = {line for report in record.reports for line in report.text}
    return [line for line in record.dmesg if line not in told]
