# purpose: where exceptions of a test's own program lead: tells the host, by the place alone, and changes no register
# mode: long64, CPL 0, on a stack of its own, IF=0
# in: none
# out: none
# clobber: none
# memory: 0x0 MEMORY_BYTES everything
# exits: io out FAULT at entry; that is vector 0, and the handler of vector N begins 3 * N bytes later
# source: SDM Vol. 3, 6.14 Exception and Interrupt Handling in 64-Bit Mode
entry:              out     PORT_FAULT, al              # vector 0
                    hlt
                    .rept   0x1f
                    out     PORT_FAULT, al
                    hlt                                 # the host has put the guest elsewhere by now
                    .endr
