"""A litmus test as a selftest for the kernel's tree: one C file, which needs nothing but that tree's own library.

All that depends on the host's KVM is left to the file. The test is planned for a vCPU whose virtualization demands
nothing and offers just what the test asks for; the file adds what the KVM that it finds demands, and is skipped where
something is not offered.
"""

from textwrap import wrap

from kvmharness.abi.binding import ffi
from kvmharness.errors import UsageError
from kvmharness.kvm.capabilities import Capabilities
from kvmharness.litmus.export import requirements, rows, template
from kvmharness.litmus.export.ctext import COLUMNS, comment, defines
from kvmharness.litmus.export.guests import Guest
from kvmharness.litmus.export.numbers import numbers
from kvmharness.litmus.named.entry import RULES
from kvmharness.litmus.needs import wishes
from kvmharness.litmus.plan import Planned, blueprint, plan
from kvmharness.litmus.program import Program
from kvmharness.vendors.known import litmus_of
from kvmharness.vendors.litmus import WISHES
from kvmharness.vendors.vendor import Vendor

_LICENSE = "// SPDX-License-Identifier: GPL-2.0-only OR MIT\n"
_WORDS = (
    "L1 is the guest, L2 its nested guest, V1 the guest on a second vCPU, which takes turns with the first one, and "
    "the host is this program. H0 to H3 are page tables of L1, G0 to G3 of L2, E0 to E2 nested ones (EPT or NPT). "
    "p0 to p3 and q0 are virtual pages to read, write and execute. d0, d1, ... are pages of memory, each with its "
    "number in it; b0, b1, ... are the same pages of the memory that the memslot is moved to; m0, m1, ... are places "
    "without memory. A row answers with the page that it reached, with the fault that it took, or that it is done."
)
# What the host's rows need of the template.
_STEPS = {
    "host slot delete": ("SLOT",),
    "host slot add": ("SLOT",),
    "host slot move": ("SLOT", "MOVE"),
    "host slot readonly": ("SLOT", "READONLY", "FLAGS"),
    "host slot writable": ("SLOT", "READONLY", "FLAGS"),
    "host dirty start": ("LOG", "FLAGS"),
    "host dirty stop": ("LOG", "FLAGS"),
    "host dirty get": ("DIRTY",),
    **dict.fromkeys(("host dirty manual", "host dirty automatic", "host dirty clear"), ("DIRTY", "MANUAL")),
    "host sregs": ("SREGS",),
    "host nested": ("RESTORE", "STATE"),
    "host migrate": ("MIGRATE", "STATE"),
}


def selftest(program: Program, vendor: Vendor) -> str:
    """The file.

    Args:
        program: the test.
        vendor: whose virtualization it uses, if it enters L2.

    Raises:
        UsageError: the test asks for what this vendor does not have, or cannot be planned.
    """
    used = vendor if program.nested else None
    offered = _ideal(program, used)
    planned = plan(program, used, offered)
    guest = Guest(planned, used, blueprint(planned.kind, used, offered))
    parts = _parts(planned, used)
    texts = {
        "HEAD": _head(planned, used),
        "NUMBERS": defines(numbers(planned, used, parts)),
        "CHECKS": rows.checks(planned),
        "ACTIONS": rows.actions(planned, guest.programs),
        "CPUID": requirements.cpuid_checks(program, used, state="STATE" in parts),
        "MSRS": requirements.msr_checks(program, used),
        **guest.texts(),
    }
    return template.fill(parts, texts)


def _ideal(program: Program, vendor: Vendor | None) -> Capabilities:
    """Of a vCPU whose registers are zeros: the file takes those that it does not set from the KVM that it finds."""
    sregs, regs = (bytes(ffi.sizeof(f"struct kvm_{name}")) for name in ("sregs", "regs"))
    if vendor is None:
        return Capabilities(b"", {}, sregs, regs)
    litmus = litmus_of(vendor)
    if missing := sorted(wishes(program) - set(litmus.asks)):
        names = ", ".join(WISHES[wish] for wish in missing)
        raise UsageError(
            f"{program.name} needs {names}, which {vendor.names.title} does not have",
            "Choose the other vendor, by --host vmx or --host svm.",
        )
    return Capabilities(b"", litmus.ideal(wishes(program)), sregs, regs)


def _parts(planned: Planned, vendor: Vendor | None) -> set[str]:
    """What the file needs of the template."""
    steps = [row.text for row in planned.program.rows if row.who == "host"]
    found = {"HOST"} if steps else set()
    found |= {"INTERRUPT"} if any(row.verb == "interrupt" for row in planned.program.rows) else set()
    if vendor is not None:
        found |= {"NESTED", vendor.names.name.upper()}
    found |= {"MSRS"} if requirements.msr_checks(planned.program, vendor) else set()
    found |= {"SECOND"} if "V1" in planned.rows else set()
    return found.union(*(_STEPS.get(step, ()) for step in steps))


def _head(planned: Planned, vendor: Vendor | None) -> str:
    program = planned.program
    rule = f" ({RULES[program.rule]})" if program.rule in RULES else ""
    where = f", for {vendor.names.title}" if vendor else ""
    answers = [rows.expected(allowed) for _, allowed in planned.answers]
    table = [" row  action                                allowed answers"]
    for number, (row, answer) in enumerate(zip(program.rows, answers, strict=True), 1):
        words = f"{number:4}  {row.text:<36}  {answer.replace('|', ' or ')}"
        table += wrap(words, COLUMNS - 3, drop_whitespace=False, subsequent_indent=" " * 44)
    paragraphs = [
        f"Litmus test {program.name}{rule}{where}, written by kvmharness: rows of actions, each of which may only "
        "answer what the architecture allows."
    ]
    if program.why:
        paragraphs.append(f"If KVM fails it, {program.why}.")
    return _LICENSE + comment([*paragraphs, "\n".join(table), _WORDS])
