# purpose: L2 does rows of actions, as L1 does, until one says to go back to L1
# mode: long64, CPL 0, paging on with L2's gpa = gva below MEMORY_BYTES, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP
# out: the answers in the rows
# clobber: all
# memory: 0x0 MEMORY_BYTES everything, shared with L1
# exits: io out DOORBELL at ring_host, ring_interrupt; vmmcall to L1 at leave
# source: APM vol. 2, 15.9 Instruction Intercepts
entry:              jmp     begin
                    .include "litmus.inc"
leave:              vmmcall
                    ud2                                 # L1 enters at `entry` each time
