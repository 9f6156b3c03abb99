# purpose: the smallest guest: prints a line on the console port and halts
# mode: real16, IF=0, all segments based at 0
# in: none
# out: none
# clobber: ax, si
# memory: 0x0 MEMORY_BYTES code and text
# exits: io out CONSOLE at print_character; hlt at done
# source: SDM Vol. 3, 9.1.4 First Instruction Executed; api.rst, KVM_RUN
entry:              mov     si, text
next_character:     lodsb
                    test    al, al
                    jz      done
print_character:    out     PORT_CONSOLE, al
                    jmp     next_character
done:               hlt
text:               .asciz  "hello from L1\n"
