# purpose: L1 as a VMX hypervisor does rows of actions, and has L2 do its own
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES, IF=0, CR4.VMXE=1
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP
# out: the answers in the rows
# clobber: all
# memory: 0x0 MEMORY_BYTES everything; VMXON_REGION and VMCS_REGION start with the VMCS revision identifier
# exits: io out DOORBELL at ring_host, ring_interrupt, ring_fail
# source: SDM Vol. 3, 25 Virtual Machine Control Structures; 29.4 Caching Translation Information; 31 VMX Instructions
entry:
                    .include "vmx_start.inc"
vmcs_written:       jmp     begin

                    .include "litmus.inc"

write_field:        mov     edx, [rbx + ACT_A]
                    mov     rax, [rbx + ACT_B]
                    vmwrite rdx, rax
                    jbe     refused
                    jmp     quiet
invalidate_ept:     mov     rax, [rbx + ACT_A]
                    invept  rax, [rbx + ACT_B]
                    jbe     refused
                    jmp     quiet
invalidate_vpid:    mov     rax, [rbx + ACT_A]
                    invvpid rax, [rbx + ACT_B]
                    jbe     refused
                    jmp     quiet

# A is L2's first row. L2 leaves by a hypercall; any other exit is the answer of the row that it stood at, and L2 goes on
# behind it, at CPL 0 again wherever it was.
enter:              mov     [rdi + MAIL_L1_ROW], rbx
                    mov     rbx, [rbx + ACT_A]
resume:             mov     edx, FIELD_GUEST_RIP
                    mov     eax, L2_CODE
                    vmwrite rdx, rax
                    cmp     qword ptr [rdi + MAIL_LAUNCHED], 0x0
                    je      launch
                    vmresume
                    jmp     not_entered
launch:             vmlaunch
not_entered:        mov     rbx, [rdi + MAIL_L1_ROW]
refused:            mov     ecx, FIELD_VM_INSTRUCTION_ERROR
                    vmread  rax, rcx
                    mov     [rbx + ACT_VALUE], rax
                    mov     qword ptr [rbx + ACT_STATUS], STATUS_REFUSED
                    jmp     next

vm_exit:            mov     ecx, FIELD_VM_EXIT_REASON   # HOST_RIP; rdi and rbx are L2's, which are L1's
                    vmread  rax, rcx
                    test    eax, eax
                    js      entry_failed
                    mov     qword ptr [rdi + MAIL_LAUNCHED], 0x1
                    cmp     eax, EXIT_VMCALL
                    jne     other_exit
                    mov     rbx, [rdi + MAIL_L1_ROW]
                    jmp     quiet
entry_failed:       mov     rbx, [rdi + MAIL_L1_ROW]
                    mov     r9d, 0x1
                    jmp     note_exit
other_exit:         xor     r9d, r9d
note_exit:          mov     [rbx + ACT_VALUE], rax
                    mov     ecx, FIELD_EXIT_QUALIFICATION
                    vmread  rax, rcx
                    mov     [rbx + ACT_DETAIL], rax
                    mov     ecx, FIELD_GUEST_PHYSICAL_ADDRESS
                    vmread  rax, rcx
                    mov     [rbx + ACT_ADDRESS], rax
                    mov     qword ptr [rbx + ACT_STATUS], STATUS_EXIT
                    test    r9d, r9d
                    jnz     next
                    add     rbx, ACT_BYTES
                    mov     rsi, L2_RESET               # pairs of field and value, up to the end mark
reset_field:        mov     edx, [rsi]
                    cmp     edx, VMCS_TABLE_END
                    je      resume
                    mov     rax, [rsi + 0x8]
                    vmwrite rdx, rax
                    add     rsi, 0x10
                    jmp     reset_field

                    .include "vmx_refused.inc"
                    .include "fail.inc"
