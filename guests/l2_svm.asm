# purpose: L2 reads its probe through the CR3 it was entered with, or one it moves to itself, and hypercalls
# mode: long64, CPL 0, paging on with L2's gpa = gva below MEMORY_BYTES and PROBE_GVA mapped per root, IF=0
# in: r9 = flags; rsi = CR3 to move to; r13 = PROBE_GVA
# out: rax = the tag read, in the VMCB after the exit; rbp = one more than before, the proof that L2 ran
# clobber: rax, rbp
# memory: 0x0 MEMORY_BYTES everything, shared with L1
# exits: none to the host; vmmcall to L1 at hypercall
# source: APM vol. 2, 15.13 Miscellaneous Intercepts; APM vol. 3, VMMCALL
entry:
                    .include "l2.inc"
hypercall:          vmmcall
                    ud2                                 # L1 enters at `entry` each time, never behind the hypercall
