"""Images that speak the output protocol of kvm-unit-tests: a few lines of 32-bit assembly in an ELF file that boots.

Source: System V ABI, "ELF Header" and "Program Header"; Multiboot Specification 0.6.96, "3.1.1".
"""

import struct
from functools import cache

from keystone import KS_ARCH_X86, KS_MODE_32, Ks

BASE = 0x10_0000
_HEADERS_BYTES = 52 + 32
MULTIBOOT = struct.pack("<3I", 0x1BADB002, 0, -0x1BADB002 & 0xFFFF_FFFF)

# esi = a text that ends with a zero byte
_SAY = """
say:    lodsb
        test al, al
        jz said
        mov ah, al
ready:  mov edx, 0x3fd
        in al, dx
        test al, 0x20
        jz ready
        mov edx, 0x3f8
        mov al, ah
        out dx, al
        jmp say
said:   ret
"""


@cache
def code(source: str) -> bytes:
    """Assembled for the place behind the multiboot header."""
    made, _ = Ks(KS_ARCH_X86, KS_MODE_32).asm(source, BASE + len(MULTIBOOT))
    return bytes(made)


def elf(content: bytes, *, entry: int = BASE + len(MULTIBOOT), memory_bytes: int = 0, **changes: int) -> bytes:
    """An executable of one segment at BASE; fields of the ELF header can be spoiled by their names."""
    fields = {"kind": 1, "order": 1, "type": 2, "machine": 3, "headers": 1, "offset": _HEADERS_BYTES, "gpa": BASE}
    fields |= {"size": len(content), "memory": memory_bytes or len(content) + 0x1000} | changes
    identity = b"\x7fELF" + bytes((fields["kind"], fields["order"], 1)) + bytes(9)
    head = struct.pack(
        "<HHIIIIIHHHHHH", fields["type"], fields["machine"], 1, entry, 52, 0, 0, 52, 32, fields["headers"], 0, 0, 0
    )
    program = struct.pack(
        "<8I", 1, fields["offset"], fields["gpa"], fields["gpa"], fields["size"], fields["memory"], 7, 0x1000
    )
    return identity + head + program + content


def image(body: str, **texts: str) -> bytes:
    """A program that begins with *body*; ``call say`` prints the text whose address is in ESI."""
    stack = f"mov esp, {BASE + 0xF000:#x}\n"
    data = "\n".join(
        f"{name}: .byte {', '.join(f'{byte:#x}' for byte in text.encode() + bytes(1))}" for name, text in texts.items()
    )
    return elf(MULTIBOOT + code(f"{stack}{body}\n{_SAY}\n{data}\n"), memory_bytes=0x1_0000)


def ending(exit_code: int) -> str:
    """The end of a test."""
    return f"\nmov eax, {exit_code:#x}\nout 0xf4, eax\nhlt\n"


def reporting(text: str, exit_code: int) -> bytes:
    """Prints a text, and ends."""
    return image(f"mov esi, text\ncall say{ending(exit_code)}", text=text)


# With IF=1, since an emulated host gets no interrupt of its own while a guest has none; the controllers are silenced.
HANGS = image(
    "mov esi, text\ncall say\nmov al, 0xff\nout 0x21, al\nout 0xa1, al\nsti\nspin: jmp spin", text="PASS: it is there\n"
)
TRIPLE_FAULT = image("mov esi, text\ncall say\nlidt [nothing]\nud2\nnothing: .quad 0x0", text="PASS: still there\n")
FLOODS = image("again: mov esi, text\ncall say\njmp again", text="the same line over and over again\n")
SILENT = image(ending(0))

# INIT and SIPI to all but itself; what starts at 0x8000 in real mode counts itself:
# lock inc byte [0x7000]; hlt; jmp to that.
STARTS_ANOTHER = image(
    f"""
        mov dword ptr [0x8000], 0x0006fef0
        mov dword ptr [0x8004], 0xfdebf470
        mov dword ptr [0xfee000f0], 0x1ff
        mov dword ptr [0xfee00300], 0xc4500
        mov dword ptr [0xfee00300], 0xc4608
wait:   pause
        cmp byte ptr [0x7000], 0x0
        je wait
        mov esi, text
        call say
        {ending(0)}""",
    text="PASS: another processor runs\n",
)

# EAX and EBX as the specification has them at the entry; then the command line, and the module's text.
BOOT_INFORMATION = image(
    f"""
        cmp eax, 0x2badb002
        jne wrong
        mov eax, [ebx]
        and eax, 0xd
        cmp eax, 0xd
        jne wrong
        cmp dword ptr [ebx + 0x14], 0x1
        jne wrong
        mov esi, line
        call say
        mov esi, [ebx + 0x10]
        call say
        mov esi, newline
        call say
        mov edi, [ebx + 0x18]
        mov esi, [edi]
        call say
        {ending(0)}
wrong:  {ending(1)}""",
    line="PASS: ",
    newline="\n",
)

# The interrupt request register of the first 8259A, by its third operation command word.
RAISES_A_LINE = image(
    f"""
        mov edx, 0x2005
        mov al, 0x1
        out dx, al
        mov al, 0xa
        out 0x20, al
        in al, 0x20
        test al, 0x20
        jz wrong
        mov esi, text
        call say
        {ending(0)}
wrong:  {ending(1)}""",
    text="PASS: line 5 is up\n",
)

DEVICES = image(
    f"""
        mov eax, 0x12345678
        out 0xe0, eax
        xor eax, eax
        in al, 0xe1
        cmp al, 0x56
        jne wrong
        in eax, 0xe0
        cmp eax, 0x12345678
        jne wrong
        mov dword ptr [0xff000010], 0xabcdef01
        cmp word ptr [0xff000012], 0xabcd
        jne wrong
        cmp dword ptr [0xfd000000], -0x1
        jne wrong
        mov edx, 0xcf8
        in eax, dx
        cmp eax, -0x1
        jne wrong
        mov dword ptr [0x50000], 0x55aa55aa
        mov eax, 0x50000
        out 0xe4, eax
        cmp dword ptr [0x50000], 0x55aa55aa
        jne wrong
        mov eax, 0xf0000000
        out 0xe4, eax
        mov esi, text
        call say
        {ending(0)}
wrong:  {ending(1)}""",
    text="PASS: ports, window and pages\n",
)

# An SMI to itself by its local APIC: without a handler it would not come back.
TAKES_AN_SMI = image(
    f"""
        mov dword ptr [0xfee000f0], 0x1ff
        mov dword ptr [0xfee00310], 0x0
        mov dword ptr [0xfee00300], 0x4200
        mov esi, text
        call say
        {ending(0)}""",
    text="PASS: back from SMM\n",
)

# Counter 0 as a rate generator (mode 2), both bytes; then the read-back command, for its status alone: bits 5 and 4 say
# how it is read, bits 3 to 1 the mode. Source: Intel 8254 data sheet, "Read-Back Command".
READS_THE_TIMER_BACK = image(
    f"""
        mov al, 0x34
        out 0x43, al
        mov al, 0xff
        out 0x40, al
        out 0x40, al
        mov al, 0xe2
        out 0x43, al
        in al, 0x40
        and al, 0x3f
        cmp al, 0x34
        jne wrong
        mov esi, good
        call say
        {ending(0)}
wrong:  mov esi, bad
        call say
        {ending(1)}""",
    good="PASS: the timer says its mode\n",
    bad="FAIL: the timer says its mode\n",
)
