# The keeper of a machine, as a complete program: the parent of its first process, which outlives the agent. It writes what it
# reads from descriptor 0 to the log, notes when it came, and says at the end how the process ended.
#
#     0  what the machine prints; nobody writes to it any more once all its processes are gone
#     1  console.log, opened to append
#     3  console.times: for each chunk its offset in console.log, and nanoseconds since 1970
#     4  exit: gets the status of wait4(2)
#     5  the folder of these files
#
# A log that would exceed 16 MiB becomes console.log.1, its times console.times.1; so do those whose times have come to 16 MiB.
# Chunks within a millisecond have one time. What cannot be written (a full disk) is lost, and the machine goes on.
#
# keeper.ts holds the assembled bytes; a test assembles this file and compares.
    .intel_syntax noprefix
    sub rsp, 65584                  # 65536 for a chunk, {offset, time}, struct timespec, size of the times, last time
    mov qword ptr [rsp + 65576], 0
    mov edi, 3
    call size
    mov [rsp + 65568], rax
    mov edi, 1
    call size
    mov r14, rax                    # r14: size of the log
read:
    xor eax, eax                    # read(0, chunk, 65536)
    xor edi, edi
    mov rsi, rsp
    mov edx, 65536
    syscall
    cmp rax, -4                     # EINTR
    je read
    test rax, rax
    jle wait
    mov r12, rax
    mov r13, rsp
    mov ecx, 16777216
    cmp [rsp + 65568], rcx
    jae aside
    add rax, r14
    cmp rax, rcx
    jbe stamp
    test r14, r14
    jz stamp
aside:
    lea rsi, [rip + log]
    lea r10, [rip + oldlog]
    mov ebx, 1
    call rotate
    lea rsi, [rip + times]
    lea r10, [rip + oldtimes]
    mov ebx, 3
    call rotate
    xor r14d, r14d
    mov [rsp + 65568], r14
    mov [rsp + 65576], r14
stamp:
    mov eax, 228                    # clock_gettime(CLOCK_REALTIME)
    xor edi, edi
    lea rsi, [rsp + 65552]
    syscall
    imul rax, [rsp + 65552], 1000000000
    add rax, [rsp + 65560]
    mov rcx, rax
    sub rcx, [rsp + 65576]
    cmp rcx, 1000000                # unsigned: a clock that was set back counts as long ago
    jb write
    mov [rsp + 65576], rax
    mov [rsp + 65536], r14
    mov [rsp + 65544], rax
    mov eax, 1                      # write(3, {offset, time}, 16)
    mov edi, 3
    lea rsi, [rsp + 65536]
    mov edx, 16
    syscall
    test rax, rax
    js write
    add [rsp + 65568], rax
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
    add r14, rax
    add r13, rax
    sub r12, rax
    jnz write
    jmp read
wait:
    mov eax, 61                     # wait4(-1, &status, 0, NULL)
    mov rdi, -1
    lea rsi, [rsp + 65536]
    xor edx, edx
    xor r10d, r10d
    syscall
    cmp rax, -4
    je wait
    test rax, rax
    jle exit
    mov eax, 1                      # write(4, &status, 4)
    mov edi, 4
    lea rsi, [rsp + 65536]
    mov edx, 4
    syscall
    jmp wait
exit:
    mov eax, 231                    # exit_group(0)
    xor edi, edi
    syscall

# The size of the file edi, by lseek(edi, 0, SEEK_END); 0 where it has none.
size:
    mov eax, 8
    xor esi, esi
    mov edx, 2
    syscall
    test rax, rax
    jns sized
    xor eax, eax
sized:
    ret

# Puts the file of name rsi aside under the name r10, and opens it anew as descriptor ebx. If that fails, the old one stays.
rotate:
    mov r15, rsi
    mov eax, 264                    # renameat(5, rsi, 5, r10)
    mov edi, 5
    mov edx, 5
    syscall
    mov eax, 257                    # openat(5, name, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600)
    mov edi, 5
    mov rsi, r15
    mov edx, 0xa0441
    mov r10d, 0600
    syscall
    test rax, rax
    js rotated
    mov rdi, rax
    mov eax, 33                     # dup2(new, descriptor)
    mov r15, rdi
    mov esi, ebx
    syscall
    mov eax, 3                      # close(new)
    mov rdi, r15
    syscall
rotated:
    ret
log:
    .asciz "console.log"
oldlog:
    .asciz "console.log.1"
times:
    .asciz "console.times"
oldtimes:
    .asciz "console.times.1"
