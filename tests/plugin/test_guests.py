"""The fixtures on this machine's own KVM: guests that end, die, hang and do not assemble, and what is shown of them."""

from dataclasses import replace
from textwrap import dedent

import pytest

pytestmark = pytest.mark.needs("kvm")


@pytest.fixture
def run(pytester):
    pytester.makeini("[pytest]\naddopts = -p no:timeout -p no:hypothesispytest -p no:cacheprovider\n")
    return pytester.runpytest_inprocess


def test_a_shipped_program_by_name(guest):
    hello = guest("hello")
    assert type(hello.run()).__name__ == "HltExit"
    assert hello.console == "hello from L1\n"


def test_a_vcpu_of_the_tests_own(vm, vcpu):
    vm.add_memory(0, 0x1000).write(0, b"\xf4")  # hlt
    sregs = vcpu.get_sregs()
    sregs.cs = replace(sregs.cs, base=0, selector=0)
    vcpu.set_sregs(sregs)
    regs = vcpu.get_regs()
    regs.rip = 0
    vcpu.set_regs(regs)
    assert type(vcpu.run()).__name__ == "HltExit"
    assert vcpu.get_regs().rip == 1


def test_named_values_and_registers_of_inline_source(guest, assemble):
    program = assemble("entry: add rax, STEP\n hlt", registers="rax = 0x40", STEP=2)
    made = guest(program)
    made.run()
    assert made.vcpu.get_regs().rax == 0x42


def test_a_guest_that_speaks_the_protocol(guest):
    session = guest("mov_cr3").session()
    assert len(session.phase(3, 4)) == 3
    assert session.round_trips == 12


DIES = '''
    def test_dies(guest, assemble):
        program = assemble("""
            entry:  mov   eax, 0x1234
            here:   ud2
                    nop
        """)
        guest(program).run()
'''


def test_a_guest_that_dies_is_shown(pytester, run):
    pytester.makepyfile(DIES)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            ">       guest(program).run()",
            "E * the guest shut down: a triple fault",
            "*- KVM guest -*",
            "vCPU 0: last exit ShutdownExit()",
            "* rax 0000000000001234 *",
            "*cr0 0x8* PG*",
            "*efer 0x* LMA*",
            "  RIP is inline:here",
            "     0x10000  entry:*test_a_guest_that_dies_is_shown.py:3",
            "  => 0x10005  here:   ud2*test_a_guest_that_dies_is_shown.py:4",
            "last exits to the test: ShutdownExit()",
        ]
    )


def test_a_guest_that_hangs_is_stopped_and_shown(pytester, run):
    pytester.makepyfile("""
        def test_hangs(guest, assemble):
            guest(assemble("entry: nop\\n jmp entry")).run(timeout_s=0.05)
    """)
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *the guest gave no sign for 0.05 s and was stopped*", "*  RIP is inline:entry*"])


def test_a_mistake_in_the_source_is_shown_in_the_tests_own_line(pytester, run):
    pytester.makepyfile('''
        def test_wrong(assemble):
            # a line before
            assemble("""
                entry:  mov   eax, 0x1
                        movv  eax, 0x2
            """)
    ''')
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *AssembleError: *test_a_mistake*.py:5: Invalid mnemonic*", "E *movv  eax, 0x2"])
    assert "KsError" not in result.stdout.str()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('guest("nothing")', "no guest program is called 'nothing'"),
        ('guest("l2")', "l2 is no guest by itself"),
        ('guest(assemble("start: hlt"))', "there is no label 'entry'"),
        ('assemble("entry: hlt", mode="long32")', "unknown mode 'long32'"),
    ],
)
def test_a_wrong_request_is_refused(pytester, run, call, message):
    pytester.makepyfile(f"def test_it(guest, assemble): {call}")
    result = run()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *{message}*"])


def test_everything_is_closed_whatever_happens(pytester, run):
    pytester.makepyfile(
        dedent("""
            import os
            def fds(): return len(os.listdir("/proc/self/fd"))
            before = fds()
            def test_two(guest): guest("hello"); guest("hello").run(); assert 0
            def test_own(vm, vcpu): assert 0
            def test_all_gone(): assert fds() == before
        """)
        + dedent(DIES)
        + "    def test_still_all_gone(): assert fds() == before".lstrip()
    )
    run("-W", "error").assert_outcomes(failed=3, passed=2)


def test_litmus_tests_by_name_and_by_rows(litmus):
    assert litmus("edit-l1-invlpg").passed
    outcome = litmus("""
        L1 read p0
        L1 map H0 p0 d9
        L1 invlpg p0
        L1 read p0
    """)
    assert [answer.seen for answer in outcome.answers] == ["d0", "done", "done", "d9"]


def test_a_litmus_test_that_fails_shows_its_table(run, pytester):
    pytester.makepyfile("""
        from kvmharness.litmus.model.answers import DONE
        from kvmharness.litmus.model.machine import Model

        def test_rows(litmus, monkeypatch):
            monkeypatch.setattr(Model, "_map", lambda self, row: DONE)  # a model that takes no notice of it
            litmus("L1 map H0 p0 d9\\nL1 invlpg p0\\nL1 read p0")

        def test_nonsense(litmus):
            litmus("L1 jump")
    """)
    result = run("-q")
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(["row 3, L1 read p0: d9 where the architecture allows d0"])
    result.stdout.fnmatch_lines(["  3  L1 read p0*d0*d9*<-- wrong"])
    result.stdout.fnmatch_lines(["*no row does 'jump'*"])
