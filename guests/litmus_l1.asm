# purpose: L1 alone does rows of actions, each of which leaves what came of it in its row
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP
# out: the answers in the rows
# clobber: all
# memory: 0x0 MEMORY_BYTES everything
# exits: io out DOORBELL at ring_host, ring_interrupt
# source: SDM Vol. 3, 4.10 Caching Translation Information
entry:              jmp     begin
                    .include "litmus.inc"
