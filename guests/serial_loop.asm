# purpose: host code, no guest: repeats KVM_RUN as run_loop.asm does, and is the other end of a serial port
# mode: long64, CPL 3, a C function int64_t serial_loop(struct context *)
# in: rdi = the context, whose words are named LOOP_...
# out: rax = the exit reason, or minus an errno; an OUT to the port's data register: a line or the buffer is full
# clobber: what the ABI lets a function clobber
# memory: the context; its buffer from LOOP_SERIAL_NEXT to LOOP_SERIAL_END; the vCPU's struct kvm_run
# exits: none
# source: api.rst, KVM_RUN and "The kvm_run structure"; System V ABI for AMD64, Register Usage; PC16550D data sheet
entry:              push    rbx
                    push    rbp
                    push    r14
                    mov     rbx, rdi
                    mov     rbp, [rbx + LOOP_KVM_RUN]
                    .include "run_and_count.inc"
                    mov     rax, [rbp + RUN_IO]         # direction, size, port and count in one word
                    mov     rcx, [rbp + RUN_IO_DATA_OFFSET]
                    cmp     rax, [rbx + LOOP_SERIAL_STATUS_IN]
                    jne     not_status
                    mov     byte ptr [rbp + rcx], SERIAL_READY
                    jmp     again
not_status:         cmp     rax, [rbx + LOOP_SERIAL_DATA_OUT]
                    jne     leave_loop
                    mov     al, [rbp + rcx]
                    mov     rdx, [rbx + LOOP_SERIAL_NEXT]
                    mov     [rdx], al
                    inc     rdx
                    mov     [rbx + LOOP_SERIAL_NEXT], rdx
                    cmp     al, 0xa
                    je      leave_loop
                    cmp     rdx, [rbx + LOOP_SERIAL_END]
                    jne     again
leave_loop:         mov     rax, r14
                    pop     r14
                    pop     rbp
                    pop     rbx
                    ret
