# purpose: exits as fast as it can, on the port that the run loop counts without showing it to Python
# mode: long64, CPL 0, paging on with gpa = gva below MEMORY_BYTES, IF=0
# in: none
# out: none
# clobber: rax
# memory: 0x0 MEMORY_BYTES everything
# exits: io out TICK at tick, without end
# source: api.rst, KVM_RUN
entry:              xor     eax, eax
tick:               out     PORT_TICK, al
                    jmp     tick
