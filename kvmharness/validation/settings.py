"""The settings of module parameters that a series is run under: those that the code which it changes hangs on.

Source: Documentation/process/maintainer-kvm-x86.rst, "Testing": where code interacts with a module parameter, the
settings that matter are tested, and what touches shadow paging is run with TDP disabled.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from kvmharness.cells.params import Params
from kvmharness.lab.kernels.switches import KvmSource, Parameter, is_meant
from kvmharness.lab.kernels.trees import KVM_FOLDERS
from kvmharness.patches.functions import Changed, changed
from kvmharness.patches.variants import Plan, Variant
from kvmharness.vendors.names import NAMES

LIMIT = 8
"""So many settings one host is run under, the default one included."""

_TDP = tuple(vendor.tdp.partition(".")[2] for vendor in NAMES)
# Files that are about a mode of KVM as a whole, whatever a function of theirs reads, and the parameters that set it.
_MODES = (
    (r"mmu(/|\.h$)", _TDP, "where shadow paging takes another way"),
    (r"mmu(/|\.h$)", ("tdp_mmu",), "which has to work without the TDP MMU, too"),
    (r"(vmx|svm)/nested\.", _TDP, "and L2 then runs on shadow page tables"),
    (
        r"vmx/(nested|vmcs12|vmcs_shadow_fields)\.",
        ("enable_shadow_vmcs",),
        "and every VMREAD and VMWRITE of L1 then exits",
    ),
    (r"emulate\.c$", ("force_emulation_prefix",), "and guests can then have any instruction emulated"),
    (
        r"(lapic|vmx/posted_intr|svm/avic)\.",
        ("enable_apicv",),
        "and interrupts then take the way of software",
    ),
)
_HARDWARE = "takes hardware that emulated hosts do not have"
_LEFT_OUT = {
    "nested": "without it nothing nested runs",
    **dict.fromkeys(("sgx", "sev", "sev_es", "sev_snp", "debug_swap"), _HARDWARE),
    **dict.fromkeys(("avic", "force_avic", "vnmi", "enable_ipiv"), _HARDWARE),
    "enlightened_vmcs": "only matters in a guest of Hyper-V",
    "mitigate_smt_rsb": "is about processors that leak",
    **dict.fromkeys(
        ("dbg", "dump_invalid_vmcs", "dump_invalid_vmcb", "report_ignored_msrs"), "only says what is logged"
    ),
}
_NO_SWITCH = "is not a switch"
# Not compiled into KVM.
_BESIDE = re.compile(r"(Documentation|tools|samples|LICENSES)/|MAINTAINERS$")


@dataclass(frozen=True, slots=True)
class Setting:
    """Module parameters to load KVM with.

    Attributes:
        params: their values.
        reason: a sentence without its first words, which are the setting: "p2 changes ..., which reads ...".
    """

    params: Params
    reason: str

    def __str__(self) -> str:
        return f"{', '.join(map('='.join, self.params)) or 'default'}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What a series is to be run under.

    Attributes:
        chosen: the default one, then those that follow from the series, the most important ones first.
        left_out: parameters that its code also hangs on, a sentence each.
        vendors: the names of the vendors whose code it changes.
    """

    chosen: tuple[Setting, ...]
    left_out: tuple[str, ...]
    vendors: tuple[str, ...]

    def under(self, vendor_module: str) -> tuple[Params, ...]:
        """The settings for a host of one vendor, the default one first."""
        return under_module((each.params for each in self.chosen), vendor_module)


def under_module(chosen: Iterable[Params], vendor_module: str) -> tuple[Params, ...]:
    """Those of some settings that a host of one vendor can be loaded with."""
    return tuple(params for params in chosen if all(_is_of(name, vendor_module) for name, _ in params))


def following(plan: Plan, known: frozenset[str], *, limit: int = LIMIT) -> Settings:
    """The settings that follow from what a series changes.

    Args:
        plan: of the series.
        known: the parameters that there are.
        limit: of settings on a host.
    """
    touched = list(_touched(plan))
    source = _source(plan)
    concerned = vendors(path for _, path, _ in touched)
    found: list[tuple[float, Parameter, str]] = []
    left_out: list[str] = []
    for parameter in source.parameters:
        if parameter.name not in known or not any(_is_of(parameter.name, module) for module in _modules(concerned)):
            continue
        reasons = [reason for each in touched for reason in _reasons(parameter, *each, source)]
        if not reasons:
            continue
        why = min(reasons, key=lambda reason: reason[0])[1]
        if without := _LEFT_OUT.get(parameter.own) or ("" if parameter.other else _NO_SWITCH):
            left_out.append(f"{parameter.name} {without}; {why}")
        else:
            found.append((min(reasons)[0], parameter, why))
    chosen = [Setting((), "KVM as it is loaded by default")]
    for _, parameter, why in sorted(found, key=_importance):
        setting = Setting(((parameter.name, parameter.other),), why)
        if _fits(chosen, parameter.name, concerned, limit):
            chosen.append(setting)
        else:
            left_out.append(f"{setting}; {limit} settings are enough")
    return Settings(tuple(chosen), tuple(left_out), concerned)


def _touched(plan: Plan) -> Iterator[tuple[str, str, Changed]]:
    """(patch, path, what is changed) for every file that a patch changes."""
    for (earlier, done), (later, count) in pairwise(_prefixes(plan)):
        before, after = plan.source(earlier), plan.source(later)
        patch = f"p{count}" if count - done == 1 else f"p{done + 1}-{count}"
        for path in sorted({path for path, _ in before.files.items() ^ after.files.items()}):
            old, new = before.read(path), after.read(path)
            yield patch, path, changed(old, new) if path.endswith((".c", ".h")) else Changed((), frozenset())


def _prefixes(plan: Plan) -> list[tuple[Variant, int]]:
    """The prefixes of the series that can be made, each with the number of its patches."""
    variants = {variant.name: variant for variant in plan.variants}
    return [(variants[name], count) for name, count in plan.prefixes.items() if name in variants]


def _source(plan: Plan) -> KvmSource:
    """KVM's source with the whole series."""
    whole = plan.source(_prefixes(plan)[-1][0])
    folders = [plan.tree / folder for folder in KVM_FOLDERS]
    paths = {str(path.relative_to(plan.tree)) for folder in folders for path in folder.rglob("*.[ch]")}
    texts = {path: whole.read(path) for path in sorted({*paths, *filter(_is_kvms, whole.files)})}
    return KvmSource.of({path: text for path, text in texts.items() if text is not None})


def _reasons(
    parameter: Parameter, patch: str, path: str, change: Changed, source: KvmSource
) -> Iterator[tuple[float, str]]:
    """Why a change of a file asks for a parameter to be set: how far-fetched, and in words."""
    place = _short(path)
    names = [f"{each.name}{'' if each.macro else '()'}" for each in change.functions]
    for each, name in zip(change.functions, names, strict=True):
        depth, how = source.how_read(each, path, parameter)
        if how:
            yield depth, f"{patch} changes {name} in {place}, which {how}"
    declared = {parameter.variable, parameter.own} & change.beside
    if declared and is_meant(parameter, path, parameter.variable):
        yield 0, f"{patch} changes how {place} declares {parameter.variable}"
    for pattern, parameters, why in _MODES:
        if parameter.own not in parameters or not (change.functions or change.beside):
            continue
        what = f"{patch} changes {names[0] + ' in ' if names else ''}{place}"
        if _is_about(path, pattern):
            # More telling than what the function calls, but not than what it reads.
            yield 0.5, f"{what}, {why}"
        elif path.endswith(".h") and (user := _user(source, change, pattern)):
            yield 1.5, f"{patch} changes {user[0]} in {place}, which {_short(user[1])} uses, {why}"


def _is_about(path: str, pattern: str) -> bool:
    return re.match(f"arch/x86/kvm/{pattern}", path) is not None


def _user(source: KvmSource, change: Changed, pattern: str) -> tuple[str, str] | None:
    """A name that a header changes, and a file of a mode that uses it."""
    for each in change.functions:
        for path in source.using(each.name):
            if _is_about(path, pattern):
                return each.name, path
    return None


def _importance(found: tuple[float, Parameter, str]) -> tuple[float, int]:
    """What the files are about as a whole comes first, then what is read, the nearest first; by module."""
    depth, parameter, _ = found
    modes = [number for number, (_, names, _) in enumerate(_MODES) if parameter.own in names]
    modules = ("kvm", *(name.module for name in NAMES))
    return modes[0] - len(_MODES) if modes else depth, modules.index(parameter.name.partition(".")[0])


def vendors(paths: Iterable[str]) -> tuple[str, ...]:
    """The vendors whose code is changed: all, where code is that they share."""
    every = list(paths)
    code = [path for path in every if not _BESIDE.match(path)] or every
    own = {name.name for name in NAMES for path in code if path.startswith(f"arch/x86/kvm/{name.name}/")}
    shared = any(not path.startswith(tuple(f"arch/x86/kvm/{name.name}/" for name in NAMES)) for path in code)
    return tuple(name.name for name in NAMES if shared or not own or name.name in own)


def _modules(concerned: Iterable[str]) -> list[str]:
    return [name.module for name in NAMES if name.name in concerned]


def _is_of(parameter: str, vendor_module: str) -> bool:
    return parameter.partition(".")[0] in ("kvm", vendor_module)


def _fits(chosen: Iterable[Setting], parameter: str, concerned: Iterable[str], limit: int) -> bool:
    """Whether no host that a parameter is for has as many settings as there may be."""
    so_far = Settings(tuple(chosen), (), ())
    return all(len(so_far.under(module)) < limit for module in _modules(concerned) if _is_of(parameter, module))


def _is_kvms(path: str) -> bool:
    return path.startswith(KVM_FOLDERS) and path.endswith((".c", ".h"))


def _short(path: str) -> str:
    return str(Path(path).relative_to("arch/x86/kvm")) if path.startswith("arch/x86/kvm/") else path
