"""What a verdict says nothing about, made from what ran: in sentences that a cover letter can use."""

from collections.abc import Mapping, Sequence

from kvmharness.results.record import Record
from kvmharness.results.tests import LITMUS, SELFTESTS, UNIT_TESTS
from kvmharness.results.verdict import listed
from kvmharness.vendors.names import NAMES

_BATTERIES = {LITMUS: "no litmus tests", SELFTESTS: "no selftests of the kernel", UNIT_TESTS: "no kvm-unit-tests"}


def untested(records: Sequence[Record], left_out: Mapping[str, str]) -> tuple[str, ...]:
    """The sentences.

    Args:
        records: of every host that the series ran on.
        left_out: variants that were not run, and why.
    """
    lines = [*_machines(records), *_vendors(records), *_parameters(records)]
    lines += [f"Only Linux {listed(sorted({str(record.host.get('kernel_release')) for record in records}))}."]
    lines += filter(None, [_batteries(records)])
    for record in records:
        lines += _skipped(record)
    lines += [f"Not variant {name}: {why}." for name, why in left_out.items()]
    return tuple(dict.fromkeys(lines))


def _batteries(records: Sequence[Record]) -> str:
    ran = {test.battery for record in records for test in record.tests}
    several = "Several vCPUs only in turn" if LITMUS in ran else "Only VMs with one vCPU, in a steady state"
    lacking = [words for battery, words in _BATTERIES.items() if battery not in ran]
    told = [] if {SELFTESTS, UNIT_TESTS} & ran else [several]
    if lacking:
        told.append(" and ".join([", ".join(lacking[:-1]), lacking[-1]] if lacking[1:] else lacking))
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _machines(records: Sequence[Record]) -> list[str]:
    emulated = [str(record.host["emulator"]) for record in records if record.host.get("emulator")]
    silicon = sorted({str(record.host.get("cpu_model")) for record in records if not record.host.get("emulator")})
    if not silicon:
        return [
            f"Not on silicon: emulated hosts only ({listed(emulated)}), where time is counted in instructions and a "
            "missing flush of the hardware's TLB may not show."
        ]
    return [f"Only on {listed([*silicon, *emulated])}."]


def _vendors(records: Sequence[Record]) -> list[str]:
    ran = {str(record.host.get("vendor_module")) for record in records}
    return [f"Not with {vendor.title} ({vendor.module})." for vendor in NAMES if vendor.module not in ran]


def _parameters(records: Sequence[Record]) -> list[str]:
    """Which parameters of KVM's modules were varied at all."""
    varied = {
        f"{name}={value}" for record in records for params in _param_sets(record) for name, value in params.items()
    }
    return [f"KVM's module parameters only at their defaults{' and with ' + listed(sorted(varied)) if varied else ''}."]


def _param_sets(record: Record) -> list[Mapping[str, str]]:
    return [*(result.params for result in record.results), *(test.params for test in record.tests)]


def _skipped(record: Record) -> list[str]:
    why: dict[str, set[str]] = {}
    for result in record.results:
        if result.skipped:
            why.setdefault(result.skipped, set()).add(result.id)
    return [f"Not {len(cells)} of the cells ({listed(sorted(cells))}): {reason}." for reason, cells in why.items()]
