"""Whether each prefix of a series builds as KVM's maintainers ask: no new warnings, and with every option of KVM.

A warning is new when the kernel without the series does not have it. So that both are asked the same, every variant
compiles all files that any of them changes. A warning is held against the first check that sees it, and against that
of KVM_WERROR, which it fails.

Source: Documentation/process/maintainer-kvm-x86.rst, "Testing" (W=1, KVM_WERROR); arch/x86/kvm/Kconfig.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kvmharness.lab.kernels import build, checks
from kvmharness.lab.kernels.checks import Check
from kvmharness.lab.kernels.complaints import Complaint, complaints, new
from kvmharness.lab.kernels.make import BuildTimeoutError, Said
from kvmharness.lab.kernels.trees import KVM_FOLDERS, Overlay
from kvmharness.patches.variants import Plan, Variant
from kvmharness.results.tests import BUILDS, FAIL, SKIP, TestResult
from kvmharness.system.programs import Progress
from kvmharness.validation.look import Look, stays_near_kvm

WARNINGS = "W=1"
_WERROR = "KVM_WERROR"
_SWITCHED = ("KVM_SMM", "KVM_XEN", "KVM_HYPERV")
# What KVM's modules are compiled from.
_COMPILED = (*KVM_FOLDERS, "include/", "arch/x86/include/")
_SHOWN_LINES = 40


@dataclass(frozen=True, slots=True)
class _Asked:
    """What every variant is asked.

    Attributes:
        tree: built, with nothing changed.
        paths: of the files that any variant changes.
        checks: by name; those of one answer together.
    """

    tree: Path
    paths: tuple[str, ...]
    checks: tuple[tuple[tuple[str, ...], Check], ...]


def build_checks(seen: Look, progress: Progress, tell: Progress) -> tuple[TestResult, ...]:
    """Compiles the kernel without the series and each prefix of it, in every way that is asked for.

    Args:
        seen: the series and the kernel.
        progress: takes a line about once a second.
        tell: takes what is being done.

    Returns:
        One a way and a variant: FAIL for what does not build, and for a complaint that the kernel without the series
        does not have and no way before has shown; SKIP for what took too long, and for changes that are not compiled
        into KVM's modules.

    Raises:
        KernelBuildError: the kernel without the series does not build.
        MissingToolError, DiskFullError.
    """
    variants = _variants(seen)
    tree = _tree(seen, progress)
    if isinstance(tree, str):
        return tuple(TestResult(BUILDS, WARNINGS, variant.name, outcome=SKIP, why=tree) for variant in variants)
    asked = _asked(seen.plan, variants, tree)
    found: list[TestResult] = []
    told: dict[str, list[Complaint]] = {variant.name: [] for variant in variants}
    for names, check in asked.checks:
        answers: list[Said | str] = []
        for variant in variants:
            tell(f"{variant.name}: does it build with {', '.join(names)}?")
            answers.append(_answer(asked, seen.plan, variant, check, names[0], progress))
            result = _judged(variant.name, answers[0], answers[-1], told[variant.name])
            found += [replace(result, name=name) for name in names]
    found += _not_compiled(seen.plan, variants)
    return tuple(found)


def _variants(seen: Look) -> list[Variant]:
    """The kernel without the series, then the prefixes that were chosen, or what was chosen in their place."""
    none = next(each for each in seen.plan.variants if not each.patches)
    others = [each for each in seen.chosen if each.patches]
    prefixes = [each for each in others if each.name in seen.plan.prefixes]
    return [none, *(prefixes or others)]


def _tree(seen: Look, progress: Progress) -> Path | str:
    """The built tree of the kernel, or why there is none to compile in."""
    if isinstance(seen.source, build.Kernel):
        tree = seen.source.tree
    elif stays_near_kvm(seen.series):
        tree = build.kernel(seen.source, progress=progress).tree
    else:
        return "the series changes more than KVM, and only KVM's modules are compiled in other ways"
    if tree is None or not checks.is_configured(tree):
        return f"{tree or 'a kernel that was given as it is'} is no built tree, and nothing can be compiled in it"
    return tree


def _asked(plan: Plan, variants: Sequence[Variant], tree: Path) -> _Asked:
    paths = sorted({path for each in variants for path in each.files if path.startswith(_COMPILED)})
    changed = _changed(plan, variants, paths)
    headers = [path for path in changed if path.endswith(".h")]
    sources = {path for path in changed if path.startswith(KVM_FOLDERS) and path.endswith(".c")}
    sources.update(checks.users(tree, headers) if headers else ())
    return _Asked(tree, tuple(paths), tuple(_checks(tree, tuple(sorted(sources)))))


def _changed(plan: Plan, variants: Sequence[Variant], paths: Sequence[str]) -> list[str]:
    """The files in which the variants differ from each other."""
    overlays = [plan.source(each) for each in variants]
    return [path for path in paths if len({overlay.read(path) for overlay in overlays}) > 1]


def _checks(tree: Path, sources: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Check]]:
    known = checks.options(tree, (_WERROR, *_SWITCHED))
    switched = {name: on for name, on in known.items() if name in _SWITCHED}
    if sources:  # with all options on, so that nothing of them is left out
        yield (WARNINGS,), Check(tuple((name, True) for name in switched), sources)
    if _WERROR in known:
        yield (checks.shown(_WERROR, True),), Check(((_WERROR, True),))
    yield tuple(checks.shown(*each) for each in switched.items()) or ("modules",), Check()
    for name, on in switched.items():
        yield (checks.shown(name, not on),), Check(((name, not on),))


def _answer(asked: _Asked, plan: Plan, variant: Variant, check: Check, name: str, progress: Progress) -> Said | str:
    """What make says, or why it was stopped."""
    source = plan.source(variant)
    overlay: Overlay = {path: source.read(path) for path in asked.paths}
    # A file that the series creates or deletes is not there in every variant.
    there = tuple(path for path in check.sources if path not in overlay or overlay[path] is not None)
    if check.sources and not there:
        return Said(0, ())
    what = f"variant {variant.name}, {name}"
    try:
        return checks.checked(asked.tree, overlay, replace(check, sources=there), what=what, progress=progress)
    except BuildTimeoutError as error:
        return str(error).partition("\n")[0]


def _judged(variant: str, before: Said | str, after: Said | str, told: list[Complaint]) -> TestResult:
    """An answer, held against that of the kernel without the series, and against what was told of the variant before.

    Args:
        told: takes what is new.
    """
    result = TestResult(BUILDS, "", variant)
    for said in (after, before):
        if isinstance(said, str):
            return replace(result, outcome=SKIP, why=said)
    assert isinstance(before, Said)
    assert isinstance(after, Said)
    every = complaints(after.lines)
    # What the kernel without the series complains of is nobody's fault, as long as it builds.
    fresh = new([*complaints(before.lines), *told], every) if after is not before else []
    told += fresh
    blamed = fresh or [each for each in every if each.error and after.status]
    if not blamed and not after.status:
        return result
    lines = [line for each in blamed for line in each.lines] or list(after.lines)
    why = str(blamed[0]) if blamed else f"make ended with status {after.status}"
    return replace(result, outcome=FAIL, why=why, table=tuple(lines[:_SHOWN_LINES]))


def _not_compiled(plan: Plan, variants: Sequence[Variant]) -> Iterator[TestResult]:
    """For each prefix, what it changes that no check compiles."""
    none = plan.source(variants[0])
    for variant in variants[1:]:
        source = plan.source(variant)
        outside = [
            path
            for path in sorted({*source.files, *none.files})
            if path.endswith((".c", ".S")) and not path.startswith(_COMPILED) and source.read(path) != none.read(path)
        ]
        if outside:
            why = f"{', '.join(outside)}: not compiled here, as not being a part of KVM's modules"
            yield TestResult(BUILDS, f"{WARNINGS} outside of KVM", variant.name, outcome=SKIP, why=why)
