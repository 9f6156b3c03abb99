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
                    .include "run_and_count.inc"
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
