# purpose: L1 alone moves from CR3 to CR3 and checks after every move that it reads through the new tables
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES and PROBE_GVA mapped per root, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP; r12 = 0x0
# out: samples at SAMPLES; mailbox
# clobber: rax, rcx, rdx, rbx, r8-r15
# memory: 0x0 MEMORY_BYTES everything
# exits: io out DOORBELL at ring_ready, ring_begin, ring_end, ring_done, ring_fail
# source: SDM Vol. 3, 4.10.4.1 Operations that Invalidate TLBs and Paging-Structure Caches; kvm_set_cr3()
entry:              mov     r13, PROBE_GVA
                    jmp     ready

round_trip:         mov     rax, [rbx + ROW_HOST_CR3]
move:               mov     cr3, rax
probe:              mov     rax, [r13]
                    cmp     rax, [rbx + ROW_HOST_TAG]
                    je      next_round_trip

                    mov     [rdi + MAIL_SEEN], rax
                    mov     rax, [rbx + ROW_HOST_TAG]
                    mov     [rdi + MAIL_EXPECTED], rax
                    mov     eax, ERROR_STALE_L1
                    jmp     fail

                    .include "phases.inc"
                    .include "exceptions.inc"
