# purpose: host code, no guest: repeats KVM_RUN until an exit that Python must see, counting exits
# mode: long64, CPL 3, a C function int64_t run_loop(struct context *)
# in: rdi = the context, whose words are named LOOP_...
# out: rax = the exit reason, or minus an errno
# clobber: what the ABI lets a function clobber
# memory: the context; the vCPU's struct kvm_run
# exits: none
# source: api.rst, KVM_RUN; System V ABI for AMD64, Register Usage
entry:              push    rbx
                    push    rbp
                    push    r12
                    push    r14
                    mov     rbx, rdi
                    mov     rbp, [rbx + LOOP_KVM_RUN]
                    mov     r12, [rbx + LOOP_TICKS_LEFT]
again:              mov     edi, [rbx + LOOP_FD]
                    mov     esi, IOCTL_KVM_RUN
                    xor     edx, edx
                    mov     eax, SYSCALL_IOCTL
                    syscall
                    mov     r14, rax
                    test    r14, r14
                    js      leave_loop
                    mov     r14d, [rbp + RUN_EXIT_REASON]
                    cmp     r14d, LOOP_REASONS
                    jae     leave_loop                  # newer than the table of counts: for Python to see
                    inc     qword ptr [rbx + r14*8 + LOOP_COUNTS]
                    cmp     r14d, REASON_IO
                    jne     leave_loop
                    cmp     word ptr [rbp + RUN_IO_PORT], PORT_TICK
                    jne     leave_loop
                    dec     r12
                    jnz     again
leave_loop:         mov     [rbx + LOOP_TICKS_LEFT], r12
                    mov     rax, r14
                    pop     r14
                    pop     r12
                    pop     rbp
                    pop     rbx
                    ret
