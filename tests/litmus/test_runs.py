"""Litmus tests as they run: what is planned, what comes back, and what a wrong answer looks like."""

import struct

import pytest

from kvmharness.errors import UsageError
from kvmharness.guest.layout import Act, Status
from kvmharness.guest.shipped import run_loop
from kvmharness.hosts.facts import module_parameters
from kvmharness.kvm.capabilities import capabilities
from kvmharness.kvm.system import Kvm
from kvmharness.litmus.encode import written
from kvmharness.litmus.execute import execute
from kvmharness.litmus.judge import judge
from kvmharness.litmus.model.answers import DONE
from kvmharness.litmus.model.machine import Model
from kvmharness.litmus.named.all import select
from kvmharness.litmus.needs import features, lacks, offers, wishes
from kvmharness.litmus.plan import STREAMS, blueprint, plan
from kvmharness.litmus.program import program
from kvmharness.litmus.protocol import page_word
from kvmharness.litmus.table import lines, why
from kvmharness.litmus.world import PAGES, frame_at, frame_gpa, world
from kvmharness.validation.litmus import run_litmus_here
from kvmharness.vendors.svm.svm import SVM
from kvmharness.vendors.vmx.litmus import VMX_LITMUS
from kvmharness.vendors.vmx.vmx import VMX
from kvmharness.x86.registers import LONG_MODE_EFER, Efer
from kvmharness.x86.vmcs import Field
from tests.surroundings import skylake

# Two of each kind: every action that one level has, and most of the host's.
HERE = (
    "edit-l1-invlpg",
    "edit-l1-previous-root",
    "edit-l1-five-roots-back",
    "split-l1",
    "global",
    "ad-l1",
    "dirty-l1",
    "dirty-huge-l1",
    "wp",
    "user",
    "mmio-l1",
    "mmio-becomes-memory",
    "slot-deleted",
    "slot-moved",
    "slot-readonly",
    "other-vcpu-unmaps",
    "other-vcpu-switches",
    "other-vcpu-slot",
    "other-vcpu-dirty",
)


def run(programs):
    """On this machine, without L2: name -> outcome."""
    with Kvm.open() as kvm:
        offered = capabilities(kvm)
    planned = [plan(each, None, offered) for each in programs]
    said = []
    execute(
        said.append,
        blueprints={"alone": blueprint("alone", None, offered).to_json()},
        programs=[each.to_json() for each in planned],
        offered=offered.to_json(),
        parameters=module_parameters(),
        run_loop=run_loop().hex(),
    )
    found = [judge(planned[each["test"]], each, None) for each in said if "test" in each]
    return {outcome.name: outcome for outcome in found}


@pytest.mark.needs("kvm")
def test_named_tests_of_one_level_pass_here():
    outcomes = run(select(HERE))
    assert {name: why(outcome) for name, outcome in outcomes.items() if not outcome.passed} == {}
    assert set(outcomes) == set(HERE)
    assert all(outcome.stats["exits"] > 0 for outcome in outcomes.values())


@pytest.mark.needs("kvm")
def test_a_wrong_expectation_is_found(monkeypatch):
    """The same run held against a model in which INVLPG flushes nothing and moves flush all: only the first differs."""
    test = program("edit", "L1 read p0\nL1 map H0 p0 d9\nL1 invlpg p0\nL1 read p0")
    outcome = run([test])["edit"]
    assert outcome.passed
    with Kvm.open() as kvm:
        planned = plan(program("other", "L1 read p0\nL1 read p1\nL1 invlpg p0\nL1 read p0"), None, capabilities(kvm))
    assert planned.answers[3][1] == {"d0"}
    assert outcome.answers[3].seen == "d9"


@pytest.mark.needs("kvm")
def test_a_guest_that_breaks_off_is_an_error_with_what_it_did():
    broken = program("broken", "L1 map H0 p0 d9\nL1 size H0 big\nL1 cr3 H0\nL1 read q0")
    with Kvm.open() as kvm:
        offered = capabilities(kvm)
    planned = plan(broken, None, offered)
    job = planned.to_json()
    job["rows"] = [[gpa, "00" * 64] for gpa, _ in job["rows"]]  # a row without code: a jump to nowhere
    said = []
    guests = {"alone": blueprint("alone", None, offered).to_json()}
    arguments = {"offered": offered.to_json(), "parameters": module_parameters(), "run_loop": run_loop().hex()}
    execute(said.append, blueprints=guests, programs=[job, plan(broken, None, offered).to_json()], **arguments)
    first, second = (judge(planned, each, None) for each in said if "test" in each)
    assert not first.passed
    assert first.error or first.wrong
    assert second.passed, "the next one is not disturbed"


def answered(rows, *words, vendor=None, mmio=(), host=()):
    """A test judged by what its rows are said to have answered: (VALUE, STATUS, DETAIL, ADDRESS) each."""
    planned = plan(program("x", rows), vendor, skylake().offered)
    streams = {who: bytearray(data) for who, data in planned.rows.items()}
    first = {who: data for who, (data, _) in STREAMS.items()}
    asked = [gpa for gpa, _ in planned.answers if gpa is not None]
    for gpa, answer in zip(asked, words, strict=True):
        (who,) = [who for who in streams if 0 <= gpa - first[who] < len(streams[who])]
        at = gpa - first[who] + Act.VALUE
        streams[who][at : at + 32] = b"".join(word.to_bytes(8, "little") for word in answer)
    raw = {
        "rows": [data.hex() for data in streams.values()],
        "mmio": list(mmio),
        "host": list(host),
        "stats": {},
        "counts": [],
    }
    return judge(planned, raw, VMX_LITMUS)


def test_answers_in_words():
    done = Status.DONE
    outcome = answered(
        "L1 read p0\nL1 write p0\nL1 peek d0\nL1 look H0 p0\nL1 uread p0\nL1 set cr4.pge=1\nL1 fetch p1",
        (page_word(0), done, 0, 0),
        (0, done, 0, 0),
        (written(2), done, 0, 0),
        (0x60, done, 0, 0),
        (0, Status.EXCEPTION | 14, 5, 0x80_0000_0008),
        (0, Status.EXCEPTION | 13, 0, 0),
        (3, done, 0, 0),
    )
    assert [answer.seen for answer in outcome.answers] == ["d0", "done", "w2", "AD", "#PF(0x5)", "#GP(0x0)", "d3"]
    assert outcome.wrong == (5, 6)
    assert why(outcome) == "row 6, L1 set cr4.pge=1: #GP(0x0) where the architecture allows done"
    table = lines(outcome)
    assert table[0].split() == ["row", "action", "expected", "seen"]
    assert table[6].endswith("<-- wrong")
    assert len(table) == 8


def test_a_fault_at_another_address_is_another_answer():
    outcome = answered("L1 uread p0", (0, Status.EXCEPTION | 14, 5, 0x1234))
    assert outcome.answers[0].seen == "#PF(0x5) at 0x1234"
    assert not outcome.passed


def test_exits_of_l2_in_words():
    outcome = answered(
        "L1 enter G0 E0 bad=guest\nL1 enter G0 E0\nL2 read p0",
        (0x8000_0021, Status.EXIT, 0, 0),
        (0, Status.DONE, 0, 0),
        (48, Status.EXIT, 0x182, frame_gpa("d32")),
        vendor=VMX,
    )
    assert [answer.seen for answer in outcome.answers] == ["exit 0x80000021", "done", "nested fault d32 w"]
    assert outcome.wrong == (2,)


def test_a_log_must_have_what_was_written_and_nothing_that_no_table_leads_to():
    rows = "host dirty start\nL1 write p0\nL1 write p1\nhost dirty get"
    ends = ((0, Status.DONE, 0, 0), (0, Status.DONE, 0, 0))
    assert answered(rows, *ends, host=["done", "d0 d1"]).passed
    assert answered(rows, *ends, host=["done", "d0 d1 d2"]).passed, "KVM has mapped it writable"
    assert not answered(rows, *ends, host=["done", "d0"]).passed
    assert not answered(rows, *ends, host=["done", "d0 d1 d300"]).passed


def test_answers_of_another_length_are_none():
    planned = plan(program("x", "L1 read p0"), None, skylake().offered)
    with pytest.raises(ValueError, match="64 bytes of rows of L1: 128 were sent"):
        judge(planned, {"rows": ["00" * 64], "mmio": [], "host": []}, None)


def test_needs_follow_from_rows():
    nested = program("x", "L1 enter G0 E0 ad tag=3\nL2 cr3 G1\nhost migrate\nL1 invept all")
    assert wishes(nested) == {"nested", "accessed", "tag", "invept", "cr3-kept"}
    assert {each.name for each in features(program("x", "L1 set cr4.smep=1\nL1 invpcid all"))} == {"SMEP", "INVPCID"}
    assert lacks(nested, offers(None, skylake().offered)) == "nested virtualization"
    assert "TLB_CONTROL" in lacks(program("x", "L1 enter G0 tag=1 flush=all"), offers(VMX, skylake().offered))
    assert lacks(program("x", "L1 read p0"), offers(None, skylake().offered)) == ""


def test_what_a_vendor_lacks_is_refused_when_planned():
    with pytest.raises(UsageError, match="offers no nesting"):
        plan(program("x", "L1 enter G0"), None, skylake().offered)


@pytest.mark.parametrize("vendor", [VMX, SVM], ids=["vmx", "svm"])
def test_the_world_is_what_names_say(vendor):
    there = world(vendor)
    assert (
        len(
            {
                there.entry_gpa(f"{level}{n}", probe)
                for level in "HG"
                for n in range(4)
                for probe in ("p0", "p3", "q0", "Q")
            }
        )
        == 32
    )
    assert all(frame_at(frame_gpa(f"d{n}")) == f"d{n}" for n in range(PAGES))
    assert frame_at(0x1000) == ""
    assert there.nested_roots == tuple(sorted(set(there.nested_roots)))


def test_a_page_is_code_that_gives_its_tag():
    assert page_word(7).to_bytes(8, "little") == bytes.fromhex("b807000000ffe200")  # mov eax, 7; jmp rdx


def test_a_row_has_room_for_its_answer():
    assert Act.VALUE == 0x20
    assert Act.BYTES == 0x40


def test_l1_is_a_hypervisor_without_an_l2_as_well():
    """What is left of a program that is shrunk may only flush."""
    alone = program("x", "L1 invvpid one tag=1\nL1 read p0")
    assert alone.nested
    assert plan(alone, VMX, skylake().offered).kind == "nested"
    assert lacks(alone, offers(None, skylake().offered)) == "nested virtualization"
    assert not program("x", "L1 read p0\nhost migrate").nested


@pytest.mark.needs("kvm")
def test_a_named_test_that_fails_names_its_rule(monkeypatch):
    monkeypatch.setattr(Model, "_map", lambda self, row: DONE)  # a model that takes no notice of it
    (result,) = run_litmus_here(select(("edit-l1-invlpg",))).tests
    assert result.outcome == "fail"
    assert result.why == "edit and switch: row 4, L1 read p0: d9 where the architecture allows d0"


def test_l1_comes_back_to_its_own_efer():
    """An exit loads it from the VMCS12. Source: SDM vol. 3C, "Loading Host Control Registers ..."."""
    rows = plan(program("x", "L1 enter G0\nL1 set efer.nxe=0\nL1 enter G0"), VMX, skylake().offered).rows["L1"]
    words = [struct.unpack_from("<4Q", rows, at) for at in range(0, len(rows), Act.BYTES)]
    written = [value for _, field, value, _ in words if field == Field.HOST_IA32_EFER]
    assert written == [int(LONG_MODE_EFER), int(LONG_MODE_EFER & ~Efer.NXE)]
