# purpose: L2 calls the code of a test, then reads its probe and hypercalls as the one without does
# mode: long64, CPL 0, paging on with L2's gpa = gva below MEMORY_BYTES and PROBE_GVA mapped per root, IF=0
# in: r9 = flags; rsi = CR3 to move to; r13 = PROBE_GVA
# out: rax = the tag read, in the VMCB after the exit; rbp = one more than before, the proof that L2 ran
# clobber: rax, rcx, rdx, rbp, rsp
# memory: 0x0 MEMORY_BYTES everything, shared with L1; the test's code lies at TEST_CODE, and ends with ret
# exits: none to the host but those of the test's code; vmmcall to L1 at hypercall
# source: APM vol. 2, 15.13 Miscellaneous Intercepts; APM vol. 3, VMMCALL
entry:
                    .include "l2_calls.inc"
hypercall:          vmmcall
                    ud2                                 # L1 enters at `entry` each time, never behind the hypercall
