# purpose: L1 as an SVM hypervisor: makes round trips to L2, each with L1's CR3, L2's CR3 and N_CR3 from its row
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES and PROBE_GVA mapped per root, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP; r11 = VMCB; r12 = 0x0; rbp = 0x0
# out: samples at SAMPLES; mailbox
# clobber: all
# memory: 0x0 MEMORY_BYTES everything; the VMCB is complete but for what each row writes
# exits: io out DOORBELL at ring_ready, ring_begin, ring_end, ring_done, ring_fail
# source: APM vol. 2, 15.4 Enabling SVM; 15.5 VMRUN Instruction; 15.6 #VMEXIT
entry:              mov     r13, PROBE_GVA
                    mov     ecx, MSR_EFER
                    rdmsr
                    or      eax, EFER_SVME
                    wrmsr
                    mov     ecx, MSR_VM_HSAVE_PA        # where VMRUN keeps L1, and KVM wants it set
                    mov     eax, HOST_SAVE_AREA
                    xor     edx, edx
                    wrmsr
                    jmp     ready

round_trip:         mov     rax, [rbx + ROW_HOST_CR3]
move:               mov     cr3, rax                    # VMRUN saves it, and the exit comes back to it
                    mov     rax, [rbx + ROW_GUEST_CR3]
                    mov     [r11 + VMCB_CR3], rax
                    mov     qword ptr [r11 + VMCB_RIP], L2_CODE     # a hypercall leaves RIP on itself
                    test    r9, FLAG_WRITE_EPTP
                    jz      n_cr3_written
                    mov     rax, [rbx + ROW_EPTP]
                    mov     [r11 + VMCB_N_CR3], rax
n_cr3_written:      mov     rsi, [rbx + ROW_L2_CR3]
                    mov     rax, r11
                    vmrun   rax

                    cmp     qword ptr [r11 + VMCB_EXITCODE], EXIT_VMMCALL   # GIF = 0 from here to the next VMRUN
                    jne     no_hypercall
                    lea     rcx, [r12 + 0x1]            # r12 round trips are done: L2 must have run once more
                    cmp     rbp, rcx
                    jne     no_hypercall
                    mov     rax, [r11 + VMCB_RAX]       # RAX itself is L1's again
                    .include "probes.inc"

# What follows only runs on the way to the host with an error.
no_hypercall:       mov     rax, [r11 + VMCB_EXITCODE]
                    mov     [rdi + MAIL_EXIT_REASON], rax
                    mov     rax, [r11 + VMCB_EXITINFO1]
                    mov     [rdi + MAIL_EXIT_QUALIFICATION], rax
                    mov     rax, [r11 + VMCB_EXITINFO2]
                    mov     [rdi + MAIL_EXIT_INFO2], rax
                    mov     rax, [r11 + VMCB_RIP]
                    mov     [rdi + MAIL_GUEST_RIP], rax
                    mov     eax, ERROR_UNEXPECTED_EXIT
                    jmp     fail

                    .include "phases.inc"
                    .include "exceptions.inc"
