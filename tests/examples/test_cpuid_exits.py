"""A test of KVM from scratch: a guest of five instructions, and the VM exits that it must make."""


def test_every_cpuid_exits_once(guest, assemble, exit_counts):
    program = assemble("""
        entry:  mov   r8d, 0x5
        again:  xor   eax, eax
                cpuid
                dec   r8d
                jnz   again
                hlt
    """)
    with exit_counts("CPUID", "HLT") as exits:
        guest(program).run()
    assert (exits["CPUID"], exits["HLT"]) == (5, 1)
