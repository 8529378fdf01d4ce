# A shared library, whole: between a program and its C library, which opens the file `/memory` for reading where the program asks
# for reading and writing. QEMU before 8.2 opens a file that it maps privately as if it were to write to it.
#
#     open, open64, __open_2, __open64_2 (path, flags, mode): openat(AT_FDCWD, path, flags, mode)
#
# private-open.ts holds the assembled bytes; a test assembles this file and compares. Layout: elf(5).
    .intel_syntax noprefix
    .set page, 4096
base:
    .byte 0x7f, 'E', 'L', 'F', 2, 1, 1, 0   # 64-bit, little endian, version 1, System V
    .quad 0
    .short 3, 62                    # ET_DYN, EM_X86_64
    .int 1
    .quad 0                         # no entry
    .quad segments - base
    .quad 0                         # no sections
    .int 0
    .short 64, 56, 4, 64, 0, 0
segments:
    .int 1, 5                       # PT_LOAD, read and execute
    .quad 0, 0, 0, changing - base, changing - base, page
    .int 1, 6                       # PT_LOAD, read and write
    .quad changing - base, changing - base + page, changing - base + page, end - changing, end - changing, page
    .int 2, 6                       # PT_DYNAMIC
    .quad dynamic - base, dynamic - base + page, dynamic - base + page, changing_end - dynamic, changing_end - dynamic, 8
    .int 0x6474e551, 6              # PT_GNU_STACK, not executable
    .quad 0, 0, 0, 0, 0, 16
names:
    .byte 0
name_openat:
    .asciz "openat"
name_open:
    .asciz "open"
name_open64:
    .asciz "open64"
name_open_2:
    .asciz "__open_2"
name_open64_2:
    .asciz "__open64_2"
memory:
    .asciz "/memory"
    .balign 8
symbols:
    .fill 24, 1, 0
    .macro symbol name, section, value
    .int \name - names
    .byte 0x12, 0                   # STB_GLOBAL, STT_FUNC; STV_DEFAULT
    .short \section
    .quad \value, 0
    .endm
    symbol name_openat, 0, 0
    symbol name_open, 1, "code - base"
    symbol name_open64, 1, "code - base"
    symbol name_open_2, 1, "code - base"
    symbol name_open64_2, 1, "code - base"
hash:                               # one chain of all
    .int 1, 6, 1, 0, 2, 3, 4, 5, 0
    .balign 8
relocations:
    .quad openat - base + page, 0x100000006, 0  # symbol 1, R_X86_64_GLOB_DAT
code:
    mov r8, rdi
    lea r9, [rip + memory]
    mov ecx, 8
compare:
    mov al, [r8]
    cmp al, [r9]
    jne other
    inc r8
    inc r9
    dec ecx
    jnz compare
    and esi, ~3                     # O_RDONLY
other:
    mov ecx, edx
    mov edx, esi
    mov rsi, rdi
    mov edi, -100                   # AT_FDCWD
    jmp [rip + openat + page]
    .balign 8
changing:
dynamic:
    .quad 4, hash - base            # DT_HASH
    .quad 5, names - base           # DT_STRTAB
    .quad 6, symbols - base         # DT_SYMTAB
    .quad 10, memory - names        # DT_STRSZ
    .quad 11, 24                    # DT_SYMENT
    .quad 7, relocations - base     # DT_RELA
    .quad 8, 24                     # DT_RELASZ
    .quad 9, 24                     # DT_RELAENT
    .quad 24, 0                     # DT_BIND_NOW
    .quad 0, 0
changing_end:
openat:
    .quad 0
end:
