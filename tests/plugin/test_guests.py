"""The fixtures on this machine's own KVM: guests that end, die, hang and do not assemble, and what is shown of them."""

from dataclasses import replace
from textwrap import dedent

import pytest

from kvmharness.guest.faults import GuestFault
from kvmharness.guest.watchdog import GuestHungError
from kvmharness.kvm.errors import GuestShutdownError
from kvmharness.kvm.exits import ExceptionExit, HltExit, MmioExit
from kvmharness.x86.exceptions import Vector

pytestmark = pytest.mark.needs("kvm")

STACK = "rsp = STACK_TOP"


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
            "E * the guest took #UD at 0x28005 (inline:here)",
            "*- KVM guest -*",
            "vCPU 0: last exit IoExit(*port=0x4e*",
            "* rax 0000000000001234 *",
            "*cr0 0x8* PG*",
            "*efer 0x* LMA*",
            "  RIP is inline:here",
            "     0x28000  entry:*test_a_guest_that_dies_is_shown.py:3",
            "  => 0x28005  here:   ud2*test_a_guest_that_dies_is_shown.py:4",
        ]
    )


@pytest.mark.parametrize(
    ("code", "vector", "error_code", "cr2"),
    [  # SDM vol. 3A, table 6-1, and fig. 4-12: bit 1 of a page fault's error code is set by a write
        ("ud2", "UD", None, None),
        ("mov rax, [0x600000]", "PF", 0, 0x600000),
        ("mov [0x7ffff8], eax", "PF", 2, 0x7FFFF8),
        ("xor eax, eax\n mov ds, [rip + bad]", "GP", 0x1238, None),
        ("xor ecx, ecx\n div ecx", "DE", None, None),
    ],
)
def test_an_exception_without_a_handler_is_told_as_it_is(guest, assemble, code, vector, error_code, cr2):
    made = guest(assemble(f"entry: mov rsp, 0x5\n{code}\n hlt\nbad: .word 0x1238"))
    with pytest.raises(GuestFault) as caught:
        made.run()
    found = caught.value
    assert (found.vector, found.error_code, found.cr2) == (Vector[vector], error_code, cr2)
    assert f"#{vector} at {found.rip:#x} (inline:" in str(found)
    regs = made.vcpu.get_regs()
    assert (regs.rip, regs.rsp) == (found.rip, 5)


def test_a_guest_goes_on_once_its_fault_is_mended(guest, assemble):
    made = guest(assemble("entry: ud2\n mov eax, 0x7\n hlt"))
    assert made.run(may_die=True) == ExceptionExit(Vector.UD, 0)
    made.vcpu.set_regs(made.vcpu.get_regs().replace(rip=made.image.origin + 2))
    assert isinstance(made.run(), HltExit)
    assert made.vcpu.get_regs().rax == 7


def test_own_handlers_and_no_idt_are_left_alone(guest, assemble):
    with pytest.raises(GuestShutdownError):
        guest(assemble("entry: lidt [rip + none]\n ud2\nnone: .word 0x0\n .quad 0x0")).run()
    program = assemble(
        "entry: ud2\nexception_vectors: .rept 0x20\n hlt\n hlt\n hlt\n hlt\n hlt\n .endr", registers=STACK
    )
    assert isinstance(guest(program).run(), HltExit)


def test_accesses_to_the_hole_are_mmio_exits(guest, assemble):
    made = guest(assemble("entry: mov dword ptr [HOLE + 0x10], 0x5\n mov rax, [HOLE + 0x1ffff8]\n hlt"))
    assert made.run() == MmioExit(0x400010, bytes([5, 0, 0, 0]), is_write=True)
    found = made.run()
    assert (found.phys_addr, len(found.data), found.is_write) == (0x5FFFF8, 8, False)
    made.vcpu.set_mmio_data((0x1234).to_bytes(8, "little"))
    assert isinstance(made.run(), HltExit)
    assert made.vcpu.get_regs().rax == 0x1234


TWO = """
    entry:    mov   dword ptr [MAILBOX], 0x1
    wait:     pause
              cmp   dword ptr [MAILBOX], 0x2
              jne   wait
              hlt
    entry1:   pause
              cmp   dword ptr [MAILBOX], 0x1
              jne   entry1
              mov   dword ptr [MAILBOX], 0x2
              hlt
"""


def test_two_vcpus_side_by_side(guest, assemble):
    made = guest(assemble(TWO), vcpus=2)
    assert [type(found) for found in made.run_all()] == [HltExit, HltExit]
    assert made.memory.read_u64(0x2000) == 2


def test_vcpus_by_turns_and_their_faults(guest, assemble):
    made = guest(assemble("entry: lock inc dword ptr [MAILBOX]\n hlt\nentry2: ud2"), vcpus=3)
    for cpu in made.cpus[:2]:
        assert isinstance(cpu.run(), HltExit)
    with pytest.raises(GuestFault, match="entry2"):
        made.cpus[2].run()
    assert made.memory.read_u64(0x2000) == 2
    with pytest.raises(GuestHungError):
        guest(assemble("entry: hlt\nentry1: jmp entry1"), vcpus=2).run_all(timeout_s=0.05)


def test_the_dirty_log(guest, assemble):
    made = guest(assemble("entry: mov [0x50000], eax\n mov [0x51ffc], rax\n hlt\n mov [0x60000], eax\n hlt"))
    with made.dirty_log() as log:
        made.run()
        assert {0x50000, 0x51000, 0x52000} <= set(log.pages())
        made.run()
        assert 0x60000 in log.pages()
        assert not {0x50000, 0x60000} & set(log.pages())


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


ONE_LINE = """
    def test_wrong(assemble):
        program = "entry: nop"

        assemble("entry: nop\\n nop\\n movv eax, 0x2")

    def test_joined(assemble):
        assemble(
            "entry: nop\\n"
            "movv eax, 0x2\\n"
            "hlt"
        )

    def test_made(assemble):
        assemble(f"entry: nop\\n nop\\n movv eax, {0x3:#x}")
"""


def test_a_mistake_in_a_string_of_one_line_is_in_that_line(pytester, run):
    pytester.makepyfile(ONE_LINE)
    result = run()
    result.assert_outcomes(failed=3)
    for line in (4, 9, 14):
        result.stdout.fnmatch_lines([f"E *AssembleError: *test_a_mistake*.py:{line}: Invalid mnemonic*"])


def test_a_source_may_say_what_a_file_says(guest, assemble):
    made = guest(
        assemble("""
        # mode: real16
        # in: rax = 0x20; rbx = MAILBOX
        entry: add ax, bx
               hlt
    """)
    )
    made.run()
    assert (made.vcpu.get_regs().rax, made.image.origin) == (0x2020, 0x8000)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ('guest("nothing")', "no guest program is called 'nothing'"),
        ('guest("l2")', "l2 is no guest by itself"),
        ('guest("tick", vcpus=9)', "9 vCPUs: 1 to 8 are expected"),
        ('guest("hello", vcpus=2)', "2 vCPUs: 1 to 8 are expected, and one in real mode"),
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
