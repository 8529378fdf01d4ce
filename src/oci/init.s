# PID 1 of a container that is given an init, as a complete program: it needs nothing of the image.
#
# Without an argument there is no command: TERM, INT, QUIT or HUP make it pass TERM to everything inside and end when the
# last process has. It then looks again every 10 ms, because commands that were started from outside are nobody's
# children in here: no signal tells when the last of them has ended.
#
# With an argument the command is its child, process 2: it passes every signal on to that one, and ends as it does.
#
# init.ts holds the assembled bytes; a test assembles this file and compares.
    .intel_syntax noprefix
    mov r13, [rsp]                  # argc
    sub rsp, 64
    mov qword ptr [rsp], -1         # every signal
    mov qword ptr [rsp + 8], 0      # struct timespec: 10 ms
    mov qword ptr [rsp + 16], 10000000
    xor r12d, r12d                  # the timeout's address: wait for ever
    mov eax, 14                     # rt_sigprocmask(SIG_SETMASK)
    mov edi, 2
    mov rsi, rsp
    xor edx, edx
    mov r10d, 8
    syscall
    jmp reap                        # the command may have ended already
wait:
    mov eax, 128                    # rt_sigtimedwait
    mov rdi, rsp
    xor esi, esi
    mov rdx, r12
    mov r10d, 8
    syscall
    test eax, eax
    js reap
    cmp eax, 17                     # SIGCHLD
    je reap
    cmp r13, 1
    ja forward
    cmp eax, 15
    je terminate
    cmp eax, 3
    ja reap                         # neither HUP (1) nor INT (2) nor QUIT (3)
terminate:
    lea r12, [rsp + 8]
    mov eax, 62                     # kill(-1, SIGTERM)
    mov rdi, -1
    mov esi, 15
    syscall
    mov eax, 62                     # kill(-1, SIGCONT)
    mov rdi, -1
    mov esi, 18
    syscall
    jmp reap
forward:
    mov esi, eax
    mov eax, 62                     # kill(2, signal)
    mov edi, 2
    syscall
reap:
    mov eax, 61                     # wait4(-1, &status, WNOHANG | __WALL, NULL)
    mov rdi, -1
    lea rsi, [rsp + 24]
    mov edx, 0x40000001
    xor r10d, r10d
    syscall
    test eax, eax
    jle reaped
    cmp r13, 1
    jbe reap
    cmp eax, 2
    jne reap
    mov edi, [rsp + 24]
    mov eax, edi
    and eax, 0x7f
    jz exited
    lea edi, [rax + 128]
    jmp exit
exited:
    shr edi, 8
    and edi, 0xff
    jmp exit
reaped:
    test r12, r12
    jz wait
    mov eax, 62                     # kill(-1, 0)
    mov rdi, -1
    xor esi, esi
    syscall
    cmp rax, -3                     # ESRCH: nobody is left
    jne wait
    xor edi, edi
exit:
    mov eax, 231                    # exit_group
    syscall
