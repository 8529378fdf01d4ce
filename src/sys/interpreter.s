# The interpreter of syscall programs (program.ts), x86-64, position independent. It touches only registers, the steps
# and the report. `run(rdi = first step, rsi = report)`; a step is eleven quadwords:
#
#     nr a1 a2 a3 a4 a5 a6 mode dest target dest2
#
# After each call: if dest, *dest = result; if dest2, *dest2 = result. Then by mode:
#     0 must      an error fails
#     1 may       go on
#     2 fork      result 0: go on; else go to target
#     3 positive  result <= 0 fails
#     4 try       an error goes to target
#     5 present   ENOENT and ENOTDIR go to target; other errors fail
# nr -1 returns a1, nr -2 goes to target. To fail: report[1] = address of the step, report[2] = result, write(report[0], &report[1], 16),
# exit_group(127).
#
# interpreter.ts holds the assembled bytes; a test assembles this file and compares.
    .intel_syntax noprefix
    push rbx
    push rbp
    mov rbx, rdi
    mov rbp, rsi
next:
    mov rax, [rbx]
    cmp rax, -1
    je done
    cmp rax, -2
    je target
    mov rdi, [rbx + 8]
    mov rsi, [rbx + 16]
    mov rdx, [rbx + 24]
    mov r10, [rbx + 32]
    mov r8, [rbx + 40]
    mov r9, [rbx + 48]
    syscall
    mov rcx, [rbx + 64]
    test rcx, rcx
    jz stored
    mov [rcx], rax
    mov rcx, [rbx + 80]
    test rcx, rcx
    jz stored
    mov [rcx], rax
stored:
    mov rcx, [rbx + 56]
    cmp rcx, 1
    je advance
    cmp rcx, 2
    je fork
    cmp rcx, 3
    je positive
    cmp rax, -4095
    jb advance
    cmp rcx, 4
    je target
    cmp rcx, 5
    jne fail
    cmp rax, -2
    je target
    cmp rax, -20
    je target
    jmp fail
positive:
    test rax, rax
    jle fail
advance:
    add rbx, 88
    jmp next
fork:
    test rax, rax
    jz advance
target:
    mov rbx, [rbx + 72]
    jmp next
done:
    mov rax, [rbx + 8]
    pop rbp
    pop rbx
    ret
fail:
    mov [rbp + 8], rbx
    mov [rbp + 16], rax
    mov rdi, [rbp]
    lea rsi, [rbp + 8]
    mov edx, 16
    mov eax, 1
    syscall
    mov edi, 127
    mov eax, 231
    syscall
    ud2
