# purpose: L1 as an SVM hypervisor does rows of actions, and has L2 do its own
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES, IF=0
# in: rdi = MAILBOX; rbx = ROWS; rsp = STACK_TOP; r11 = VMCB
# out: the answers in the rows
# clobber: all
# memory: 0x0 MEMORY_BYTES everything; the VMCB is complete but for what rows write into it
# exits: io out DOORBELL at ring_host, ring_interrupt
# source: APM vol. 2, 15.4 Enabling SVM; 15.5 VMRUN Instruction; 15.6 #VMEXIT; 15.16 TLB Control
entry:              mov     ecx, MSR_EFER
                    rdmsr
                    or      eax, EFER_SVME
                    wrmsr
                    mov     ecx, MSR_VM_HSAVE_PA
                    mov     eax, HOST_SAVE_AREA
                    xor     edx, edx
                    wrmsr
                    jmp     begin

                    .include "litmus.inc"

invalidate_asid:    mov     rax, [rbx + ACT_A]
                    mov     ecx, [rbx + ACT_B]
                    invlpga rax, ecx
                    jmp     quiet

# A is L2's first row. L2 leaves by a hypercall; any other exit is the answer of the row that it stood at, and L2 goes on
# behind it, at CPL 0 again wherever it was.
enter:              mov     [rdi + MAIL_L1_ROW], rbx
                    mov     rbx, [rbx + ACT_A]
resume:             mov     qword ptr [r11 + VMCB_RIP], L2_CODE
                    mov     rax, r11
                    vmrun   rax
                    mov     dword ptr [r11 + VMCB_TLB_CONTROL], 0x0  # it is for one entry
                    mov     rax, [r11 + VMCB_EXITCODE]
                    cmp     rax, EXIT_VMMCALL
                    jne     other_exit
                    mov     rbx, [rdi + MAIL_L1_ROW]
                    jmp     quiet
other_exit:         mov     r9, rbx
                    cmp     rax, EXIT_INVALID
                    jne     note_exit
                    mov     r9, [rdi + MAIL_L1_ROW]
note_exit:          mov     [r9 + ACT_VALUE], rax
                    mov     rax, [r11 + VMCB_EXITINFO1]
                    mov     [r9 + ACT_DETAIL], rax
                    mov     rax, [r11 + VMCB_EXITINFO2]
                    mov     [r9 + ACT_ADDRESS], rax
                    mov     qword ptr [r9 + ACT_STATUS], STATUS_EXIT
                    cmp     r9, rbx
                    je      go_on
                    mov     rbx, r9
                    jmp     next
go_on:              add     rbx, ACT_BYTES
                    mov     rcx, L2_RESET
                    mov     rax, [rcx]             # CS, SS and CPL as they were at the first entry
                    mov     [r11 + VMCB_CS], rax
                    mov     rax, [rcx + 0x8]
                    mov     [r11 + VMCB_SS], rax
                    mov     byte ptr [r11 + VMCB_CPL], 0x0
                    mov     qword ptr [r11 + VMCB_RFLAGS], RFLAGS_FIXED
                    mov     qword ptr [r11 + VMCB_RSP], STACK_TOP
                    jmp     resume
