# Writes what it reads from descriptor 0 to descriptor 1 until there is no more, as a complete program. It keeps what a
# container prints when nobody else is there to read: what cannot be written (a full disk) is lost, and the container goes on.
#
# logger.ts holds the assembled bytes; a test assembles this file and compares.
    .intel_syntax noprefix
    sub rsp, 65536
read:
    xor eax, eax                    # read(0, buffer, 65536)
    xor edi, edi
    mov rsi, rsp
    mov edx, 65536
    syscall
    cmp rax, -4                     # EINTR
    je read
    test rax, rax
    jle exit
    mov r12, rax
    mov r13, rsp
write:
    mov eax, 1                      # write(1, …)
    mov edi, 1
    mov rsi, r13
    mov rdx, r12
    syscall
    cmp rax, -4
    je write
    test rax, rax
    jle read
    add r13, rax
    sub r12, rax
    jnz write
    jmp read
exit:
    mov eax, 231                    # exit_group(0)
    xor edi, edi
    syscall
