# purpose: L1 as a VMX hypervisor: makes round trips to L2, each with HOST_CR3, GUEST_CR3 and EPTP from its row
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES and PROBE_GVA mapped per root, IF=0, CR4.VMXE=1
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP; r12 = 0x0; rbp = 0x0
# out: samples at SAMPLES; mailbox
# clobber: all
# memory: 0x0 MEMORY_BYTES everything; VMXON_REGION and VMCS_REGION start with the VMCS revision identifier
# exits: io out DOORBELL at ring_ready, ring_begin, ring_end, ring_done, ring_fail
# source: SDM Vol. 3, 25.8 Virtual-Machine Control Structure initialization; 32.2 Conventions; 31 VMX Instructions
entry:              mov     r13, PROBE_GVA
                    .include "vmx_start.inc"
vmcs_written:       xor     r11d, r11d                  # 0 until the first entry has been made
                    jmp     ready

round_trip:         mov     edx, FIELD_HOST_CR3
                    mov     rax, [rbx + ROW_HOST_CR3]
                    vmwrite rdx, rax                    # not in the shadow VMCS: exits on every host
                    mov     edx, FIELD_GUEST_CR3
                    mov     rax, [rbx + ROW_GUEST_CR3]
                    vmwrite rdx, rax
                    mov     edx, FIELD_GUEST_RIP        # a hypercall leaves RIP on itself
                    mov     eax, L2_CODE
                    vmwrite rdx, rax
                    test    r9, FLAG_WRITE_EPTP
                    jz      eptp_written
                    mov     edx, FIELD_EPT_POINTER
                    mov     rax, [rbx + ROW_EPTP]
                    vmwrite rdx, rax
eptp_written:       test    qword ptr [rbx + ROW_ACTIONS], ACTION_INVEPT
                    jnz     invalidate
enter:              mov     rsi, [rbx + ROW_L2_CR3]
                    test    r11d, r11d
                    jz      first_entry
                    vmresume
                    jmp     entry_refused
first_entry:        inc     r11d
                    vmlaunch
                    jmp     entry_refused

vm_exit:            lea     rcx, [r12 + 0x1]            # HOST_RIP. r12 round trips are done: L2 must have run once more
                    cmp     rbp, rcx
                    jne     no_hypercall
                    .include "probes.inc"

invalidate:         mov     rax, [rbx + ROW_EPTP]
                    mov     ecx, INVEPT_DESCRIPTOR
                    mov     [rcx], rax
                    mov     eax, 0x1                    # single-context
                    invept  rax, [rcx]
                    mov     eax, ERROR_INVEPT_FAILED
                    jbe     instruction_refused
                    jmp     enter

# What follows only runs on the way to the host with an error.
no_hypercall:       mov     ecx, FIELD_VM_EXIT_REASON
                    vmread  rax, rcx
                    mov     [rdi + MAIL_EXIT_REASON], rax
                    mov     ecx, FIELD_EXIT_QUALIFICATION
                    vmread  rax, rcx
                    mov     [rdi + MAIL_EXIT_QUALIFICATION], rax
                    mov     ecx, FIELD_VM_EXIT_INTR_INFO
                    vmread  rax, rcx
                    mov     [rdi + MAIL_INTERRUPTION_INFO], rax
                    mov     ecx, FIELD_GUEST_RIP
                    vmread  rax, rcx
                    mov     [rdi + MAIL_GUEST_RIP], rax
                    mov     eax, ERROR_UNEXPECTED_EXIT
                    jmp     fail
                    .include "vmx_refused.inc"

                    .include "phases.inc"
                    .include "exceptions.inc"
