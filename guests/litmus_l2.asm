# purpose: L2 does rows of actions, as L1 does, until one says to go back to L1
# mode: long64, CPL 0, paging on with L2's gpa = gva below MEMORY_BYTES, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP
# out: the answers in the rows
# clobber: all
# memory: 0x0 MEMORY_BYTES everything, shared with L1
# exits: io out DOORBELL at ring_host, ring_interrupt; vmcall to L1 at leave
# source: SDM Vol. 3, 26.1.2 Instructions That Cause VM Exits Unconditionally
entry:              jmp     begin
                    .include "litmus.inc"
leave:              vmcall
                    ud2                                 # L1 enters at `entry` each time
switch_eptp:        xor     eax, eax                    # VM function 0
                    mov     ecx, [rbx + ACT_A]
                    vmfunc
                    jmp     quiet
