"""Faults in KVM's modules of Linux 6.1, as data: what is edited, and which named litmus tests must tell."""

import tomllib
from collections import defaultdict
from dataclasses import dataclass
from difflib import unified_diff
from functools import cache

from kvmharness.lab.kernels import build
from kvmharness.lab.kernels.source import debian
from kvmharness.litmus.named.all import select
from kvmharness.results.record import VariantId
from kvmharness.results.tests import FAIL, PASS
from kvmharness.validation.campaign import Variant
from kvmharness.validation.litmus import run_litmus
from kvmharness.validation.snapshots import emulated_host
from tests.folders import LITMUS_FAULTS


@dataclass(frozen=True)
class Fault:
    """One of them.

    Attributes:
        name, why: what it is called, and what goes wrong.
        rule: of those behind litmus tests, the one that it breaks.
        tests: the named tests that must fail.
        edits: file, old text and new text of each.
        host, params: where it can be seen.
        log: what the kernel says, for a fault that no guest can see.
    """

    name: str
    why: str
    rule: int
    tests: tuple[str, ...]
    edits: tuple[tuple[str, str, str], ...]
    host: str = "vmx:skylake"
    params: tuple[tuple[str, str], ...] = ()
    log: str = ""

    @property
    def place(self):
        return self.host, self.params

    def overlay(self, tree):
        """The files that it changes, as they are then."""
        files = {}
        for name, old, new in self.edits:
            text = files.get(name) or (tree / name).read_text()
            assert text.count(old) == 1, f"{self.name}: {text.count(old)} places in {name} read {old!r}"
            files[name] = text.replace(old, new)
        return {name: text.encode() for name, text in files.items()}

    def patch(self, tree):
        """It as a mail."""
        changes = []
        for name, data in self.overlay(tree).items():
            before = (tree / name).read_text().splitlines(keepends=True)
            after = data.decode().splitlines(keepends=True)
            changes += [f"diff --git a/{name} b/{name}\n", *unified_diff(before, after, f"a/{name}", f"b/{name}")]
        return f"From: A <a@example.org>\nSubject: [PATCH] {self.name}\n\n{self.why}\n\n---\n" + "".join(changes)


def _read(data):
    edits = tuple((edit["file"], edit["old"], edit["new"]) for edit in data.pop("edit"))
    params = tuple(sorted(data.pop("params", {}).items()))
    return Fault(**data | {"tests": tuple(data["tests"])}, edits=edits, params=params)


def every():
    """All of them."""
    files = sorted(LITMUS_FAULTS.glob("*.toml"))
    return tuple(_read(data) for file in files for data in tomllib.loads(file.read_text())["fault"])


def check(fault, others):
    """That its tests fail because of it: a row's answer is wrong, or the kernel says what it must not.

    Args:
        fault: the one.
        others: those of the same place, itself among them, to be built and tried in one run.
    """
    results, logs = _run(others)
    for name in fault.tests:
        assert results["stock", name].outcome == PASS
        if not fault.log:
            told = results[fault.name, name]
            assert told.outcome == FAIL
            assert "the kernel went down" not in told.why
    assert fault.log in "\n".join(logs.get(fault.name, ()))
    assert not fault.log or fault.log not in "\n".join(logs.get("stock", ()))


@cache
def _run(faults):
    """Builds faults of one place, and runs the tests of all under each: results by variant and test, log by variant."""
    kernel = build.kernel(debian())
    ((host, params),) = {fault.place for fault in faults}
    stock = Variant(VariantId("stock", kernel.source), kernel.modules)
    made = [Variant(VariantId(fault.name, fault.why), _modules(kernel, fault)) for fault in faults]
    programs = select(tuple(name for fault in faults for name in fault.tests))
    found = run_litmus(emulated_host(host, kernel, at_once=2), (stock, *made), (params,), programs)
    logs = defaultdict(list)
    for log in found.logs:
        logs[log.variant] += log.lines
    return {(test.variant, test.name): test for test in found.tests}, logs


def _modules(kernel, fault):
    return build.variant(kernel.tree, fault.overlay(kernel.tree), name=fault.name)
