"""The command under a failure is one that the parser takes, and names the cell, the host and the variant."""

import shlex
from dataclasses import replace

import pytest

from kvmharness.cells.cell import Cell, Setup, with_params
from kvmharness.cli.main import parser
from kvmharness.report import alone
from kvmharness.report.rows import rows
from kvmharness.results.tests import TestResult
from kvmharness.results.verdict import ClaimResult, Outcome
from tests import builders

RECORD = builders.record([with_params(Cell(Setup.NO_EPT, 3, 3), {"kvm_intel.ept": "0"})], turns=1)
VMX = replace(RECORD, host={**RECORD.host, "name": "vmx:penryn", "emulated": "vmx:penryn"})
SVM = replace(RECORD, host={**RECORD.host, "name": "svm", "emulated": "svm:epyc"})
HERE = replace(RECORD, host={**RECORD.host, "name": "local"})
COMMAND = ("kvmharness", "validate", "my.mbox", "--host", "x", "--source", "/src", "--turns", "1", "--reload-modules")


def of_claim(name, figures=(), cells=(), variants=(), *, records=(VMX,), command=COMMAND):
    claim = ClaimResult(name, "T.", Outcome.FAIL, figures, cells, variants)
    return alone.of_claim(claim, records, command)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            of_claim("no-more-loads", ("e:3x3/ept=0 p1: worse",), ("e:3x3/ept=0",), ("p1", "both")),
            "run e:3x3/ept=0 --host vmx:penryn --series my.mbox --variant p1 --source /src",
        ),
        (
            of_claim("no-more-loads", ("svm: a:3x3 p1: worse",), ("a:3x3",), ("p1",), records=(VMX, SVM)),
            "run a:3x3 --host svm --series my.mbox --variant p1 --source /src",
        ),
        (
            of_claim("no-more-loads", (), ("d:5",), ("p1",), records=(HERE,)),
            "validate my.mbox d:5 --source /src --reload-modules --host local --variants none p1",
        ),
        (
            of_claim("litmus-tests-hold", (), ("invept-one/kvm_intel.ept=0",), ("both",)),
            "validate my.mbox d:1 --litmus --source /src --reload-modules --host vmx:penryn --variants none both",
        ),
        (
            of_claim("every-prefix-builds", ("p1, with T:",), (), ("p1",), records=()),
            "validate my.mbox --source /src --reload-modules --variants p1",
        ),
        (
            of_claim("no-more-loads", (), ("a:3x3",), ("p1",), command=(*COMMAND[:2], "-", "--source=/src")),
            "run a:3x3 --host vmx:penryn --series - --variant p1 --source=/src < MAILS",
        ),
    ],
)
def test_the_command_of_a_claim(given, said):
    assert given == f"kvmharness {said}"
    assert parser().parse_args(shlex.split(given.partition(" < ")[0])[1:]).handler


def test_a_verdict_that_no_validation_made_has_none():
    assert of_claim("x", (), ("a:3x3",), ("p1",), command=("kvmharness", "run")) == ""


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("kvmharness", "run", "--has", "none", "e*"), "run e:3x3/ept=0 --host vmx:penryn --has none"),
        (
            ("kvmharness", "run", "e*", "--series", "s", "--variant", "p1"),
            "run e:3x3/ept=0 --host vmx:penryn --series s --variant p1",
        ),
        (("kvmharness", "validate", "s", "e*"), "run e:3x3/ept=0 --host vmx:penryn --series s --variant none"),
    ],
)
def test_the_command_of_a_cell(command, said):
    record = replace(VMX, command=command)
    assert alone.of_row(record, rows(record)[0]) == f"kvmharness {said}"
    assert parser().parse_args(said.split()).handler


@pytest.mark.parametrize(
    ("command", "test", "said"),
    [
        (
            ("kvmharness", "suite", "selftests", "*_test", "--source", "/src"),
            TestResult("selftests", "x86_64/smm_test", "host", {"kvm.tdp_mmu": "N"}, outcome="fail"),
            "suite selftests x86_64/smm_test --host vmx:penryn --param kvm.tdp_mmu=N --source /src",
        ),
        (
            ("kvmharness", "suite", "unit-tests", "--tree", "/t"),
            TestResult("unit-tests", "smap: a line", "host", outcome="fail"),
            "suite unit-tests smap --host vmx:penryn --tree /t",
        ),
        (
            ("kvmharness", "litmus", "./mine.litmus"),
            TestResult("litmus", "mine", "host", outcome="fail"),
            "litmus ./mine.litmus --host vmx:penryn",
        ),
        (("kvmharness", "litmus"), TestResult("litmus", "random-1-0", "host", outcome="fail"), ""),
        (COMMAND, TestResult("litmus", "wp", "p1", outcome="fail"), ""),
    ],
)
def test_the_command_of_a_test(command, test, said):
    assert alone.of_test(replace(VMX, command=command), test) == (f"kvmharness {said}" if said else "")
    assert not said or parser().parse_args(said.split()).handler
