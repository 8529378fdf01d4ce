import { CLONE } from '../sys/flags.ts';
import type { OciSeccomp, OciSyscallRule } from './spec.ts';

/*
 * The system calls of a Tsfile container. Whatever is not here fails with EPERM: what changes the machine rather than
 * the container (clocks, modules, swap, kexec, quotas), what the kernel does not separate by namespaces (keyctl and its
 * kin), and wide entrances to the kernel that programs do without (userfaultfd, io_uring, bpf, perf_event_open).
 * Names that an architecture or libseccomp does not have are left out when the filter is made; what is newer than this
 * list answers ENOSYS, so that programs fall back as on an older kernel.
 */

/** Reading and writing: every program. `ioctl` is judged by the device behind the descriptor. */
const fileContent = [
  ...['open', 'openat', 'openat2', 'creat', 'close', 'close_range', 'dup', 'dup2', 'dup3', 'fcntl', 'fcntl64', 'ioctl'],
  ...['read', 'readv', 'pread64', 'preadv', 'preadv2', 'write', 'writev', 'pwrite64', 'pwritev', 'pwritev2'],
  ...['lseek', '_llseek', 'truncate', 'truncate64', 'ftruncate', 'ftruncate64', 'fallocate', 'flock'],
  // dpkg and databases: on the disk before they go on.
  ...['fsync', 'fdatasync', 'sync', 'syncfs', 'sync_file_range', 'msync'],
  // nginx and haproxy: from a file or socket to another without a copy; cp: within the file system.
  ...['sendfile', 'sendfile64', 'splice', 'tee', 'vmsplice', 'copy_file_range'],
  // postgres and mariadb: what is read soon, and what no longer.
  ...['readahead', 'fadvise64', 'fadvise64_64', 'cachestat'],
  // mariadb, nginx with `aio on`: asynchronous reads and writes of the old kind.
  ...['io_setup', 'io_submit', 'io_getevents', 'io_pgetevents', 'io_pgetevents_time64', 'io_cancel', 'io_destroy'],
];

/** Names, folders, owners, times, attributes: shells, apt and dpkg above all. */
const fileNames = [
  ...['stat', 'lstat', 'fstat', 'stat64', 'lstat64', 'fstat64', 'newfstatat', 'fstatat64', 'statx'],
  ...['statfs', 'statfs64', 'fstatfs', 'fstatfs64', 'statmount', 'listmount'],
  ...['access', 'faccessat', 'faccessat2', 'getcwd', 'chdir', 'fchdir', 'getdents', 'getdents64'],
  ...['mkdir', 'mkdirat', 'rmdir', 'mknod', 'mknodat', 'link', 'linkat', 'symlink', 'symlinkat', 'unlink', 'unlinkat'],
  ...['rename', 'renameat', 'renameat2', 'readlink', 'readlinkat', 'umask'],
  ...['chmod', 'fchmod', 'fchmodat', 'fchmodat2'],
  ...['chown', 'fchown', 'lchown', 'fchownat', 'chown32', 'fchown32', 'lchown32'],
  ...['utime', 'utimes', 'futimesat', 'utimensat', 'utimensat_time64'],
  ...['getxattr', 'lgetxattr', 'fgetxattr', 'getxattrat', 'listxattr', 'llistxattr', 'flistxattr', 'listxattrat'],
  ...[
    'setxattr',
    'lsetxattr',
    'fsetxattr',
    'setxattrat',
    'removexattr',
    'lremovexattr',
    'fremovexattr',
    'removexattrat',
  ],
  // node and java watch folders. A handle serves only those who may open one, see CAP_DAC_READ_SEARCH.
  ...['inotify_init', 'inotify_init1', 'inotify_add_watch', 'inotify_rm_watch', 'name_to_handle_at'],
];

/** Waiting for descriptors: the event loops of nginx, haproxy, node, java, Go. */
const events = [
  ...['select', '_newselect', 'pselect6', 'pselect6_time64', 'poll', 'ppoll', 'ppoll_time64'],
  ...['epoll_create', 'epoll_create1', 'epoll_ctl', 'epoll_wait', 'epoll_pwait', 'epoll_pwait2'],
  ...['eventfd', 'eventfd2', 'signalfd', 'signalfd4', 'pipe', 'pipe2'],
  ...['timerfd_create', 'timerfd_settime', 'timerfd_settime64', 'timerfd_gettime', 'timerfd_gettime64'],
];

/** Memory. java and node make code at run time and guard it; databases lock theirs; browsers keep secrets in theirs. */
const memory = [
  ...['brk', 'mmap', 'mmap2', 'munmap', 'mremap', 'remap_file_pages', 'mprotect', 'madvise', 'mincore', 'mseal'],
  ...['mlock', 'mlock2', 'mlockall', 'munlock', 'munlockall', 'pkey_alloc', 'pkey_free', 'pkey_mprotect'],
  ...['memfd_create', 'memfd_secret', 'map_shadow_stack', 'membarrier', 'process_mrelease'],
];

/** Processes and threads: every program; for `clone`, `clone3` and `personality` see below. */
const processes = [
  ...['fork', 'vfork', 'execve', 'execveat', 'exit', 'exit_group', 'wait4', 'waitid', 'waitpid', 'pause'],
  ...['getpid', 'getppid', 'gettid', 'getpgid', 'setpgid', 'getpgrp', 'getsid', 'setsid', 'pidfd_open', 'prctl'],
  ...['set_tid_address', 'set_robust_list', 'get_robust_list', 'rseq', 'restart_syscall'],
  ...['futex', 'futex_time64', 'futex_waitv', 'futex_wait', 'futex_wake', 'futex_requeue'],
  // Segment registers: thread-local storage, and Wine.
  ...['arch_prctl', 'set_thread_area', 'get_thread_area', 'modify_ldt'],
  // strace, gdb and sanitizers, on processes of the container. Since Linux 4.8 a tracer does not get around the filter.
  ...['ptrace', 'process_vm_readv', 'process_vm_writev'],
  // Probes that an administrator outside places in the container's programs; without these the programs die of them.
  ...['uretprobe', 'uprobe'],
];

/** Priorities and limits: postgres and mariadb for their workers, java for its threads; the kernel knows who may raise. */
const scheduling = [
  ...['getpriority', 'setpriority', 'nice', 'ioprio_get', 'ioprio_set', 'getcpu'],
  ...['sched_yield', 'sched_getaffinity', 'sched_setaffinity', 'sched_getattr', 'sched_setattr'],
  ...['sched_getparam', 'sched_setparam', 'sched_getscheduler', 'sched_setscheduler'],
  ...['sched_get_priority_max', 'sched_get_priority_min', 'sched_rr_get_interval', 'sched_rr_get_interval_time64'],
  ...['getrlimit', 'ugetrlimit', 'setrlimit', 'prlimit64', 'getrusage', 'times'],
];

const signals = [
  ...['kill', 'tkill', 'tgkill', 'rt_sigqueueinfo', 'rt_tgsigqueueinfo', 'pidfd_send_signal'],
  ...['rt_sigaction', 'rt_sigprocmask', 'rt_sigpending', 'rt_sigsuspend', 'rt_sigreturn', 'sigaltstack'],
  ...['rt_sigtimedwait', 'rt_sigtimedwait_time64'],
  // i386 only
  ...['signal', 'sigaction', 'sigprocmask', 'sigpending', 'sigsuspend', 'sigreturn'],
];

/** Who one is. `setuid` and its like need capabilities of their own. A filter or Landlock only takes rights away. */
const identity = [
  ...['getuid', 'geteuid', 'getgid', 'getegid', 'getresuid', 'getresgid', 'getgroups'],
  ...['getuid32', 'geteuid32', 'getgid32', 'getegid32', 'getresuid32', 'getresgid32', 'getgroups32'],
  ...['setuid', 'setgid', 'setreuid', 'setregid', 'setresuid', 'setresgid', 'setfsuid', 'setfsgid', 'setgroups'],
  ...['setuid32', 'setgid32', 'setreuid32', 'setregid32', 'setresuid32', 'setresgid32', 'setfsuid32', 'setfsgid32'],
  ...['setgroups32', 'capget', 'capset', 'seccomp'],
  ...['landlock_create_ruleset', 'landlock_add_rule', 'landlock_restrict_self'],
];

/** Clocks and timers. `adjtimex` also reads, as ntp clients do; setting needs CAP_SYS_TIME of the machine. */
const time = [
  ...['time', 'gettimeofday', 'clock_gettime', 'clock_gettime64', 'clock_getres', 'clock_getres_time64'],
  ...['nanosleep', 'clock_nanosleep', 'clock_nanosleep_time64', 'alarm', 'getitimer', 'setitimer'],
  ...['timer_create', 'timer_delete', 'timer_getoverrun'],
  ...['timer_settime', 'timer_settime64', 'timer_gettime', 'timer_gettime64'],
  ...['adjtimex', 'clock_adjtime', 'clock_adjtime64'],
];

/** What one does with a socket; which sockets there are, see below. */
const sockets = [
  ...['bind', 'connect', 'listen', 'accept', 'accept4', 'shutdown', 'getsockname', 'getpeername'],
  ...['getsockopt', 'setsockopt', 'send', 'sendto', 'sendmsg', 'sendmmsg'],
  ...['recv', 'recvfrom', 'recvmsg', 'recvmmsg', 'recvmmsg_time64'],
];

/** Between processes of the container, which has an IPC namespace: postgres shares its buffers this way. */
const ipc = [
  ...['shmget', 'shmat', 'shmdt', 'shmctl', 'semget', 'semop', 'semtimedop', 'semtimedop_time64', 'semctl'],
  ...['msgget', 'msgsnd', 'msgrcv', 'msgctl', 'ipc'],
  ...['mq_open', 'mq_unlink', 'mq_notify', 'mq_getsetattr'],
  ...['mq_timedsend', 'mq_timedsend_time64', 'mq_timedreceive', 'mq_timedreceive_time64'],
];

const system = ['uname', 'sysinfo', 'getrandom'];

const always = [
  ...[fileContent, fileNames, events, memory, processes, scheduling, signals, identity, time, sockets, ipc, system],
].flat();

/** Calls that serve only who has the capability, and that the kernel need not even be asked for by others. */
const byCapability: Readonly<Record<string, readonly string[]>> = {
  CAP_BPF: ['bpf'],
  CAP_DAC_READ_SEARCH: ['open_by_handle_at'],
  CAP_PERFMON: ['perf_event_open'],
  CAP_SYSLOG: ['syslog'],
  CAP_SYS_ADMIN: [
    ...['mount', 'umount', 'umount2', 'pivot_root', 'mount_setattr', 'open_tree', 'open_tree_attr', 'move_mount'],
    ...['fsopen', 'fsconfig', 'fsmount', 'fspick', 'quotactl', 'quotactl_fd', 'fanotify_init', 'fanotify_mark'],
    ...['clone', 'clone3', 'unshare', 'setns', 'sethostname', 'setdomainname'],
    ...['bpf', 'perf_event_open', 'syslog', 'lookup_dcookie'],
    ...['lsm_get_self_attr', 'lsm_set_self_attr', 'lsm_list_modules'],
  ],
  CAP_SYS_BOOT: ['reboot'],
  CAP_SYS_CHROOT: ['chroot'],
  CAP_SYS_MODULE: ['init_module', 'finit_module', 'delete_module'],
  CAP_SYS_NICE: ['get_mempolicy', 'set_mempolicy', 'set_mempolicy_home_node', 'mbind', 'migrate_pages', 'move_pages'],
  CAP_SYS_PACCT: ['acct'],
  CAP_SYS_PTRACE: ['kcmp', 'pidfd_getfd', 'process_madvise'],
  CAP_SYS_RAWIO: ['iopl', 'ioperm'],
  CAP_SYS_TIME: ['settimeofday', 'stime', 'clock_settime', 'clock_settime64'],
  CAP_SYS_TTY_CONFIG: ['vhangup'],
};

/**
 * Families of socket(2), address_families(7). Others are doors to seldom used parts of the kernel: AF_ALG to its
 * ciphers, AF_VSOCK past all network namespaces to the host and to VMs.
 */
const families = { AF_UNIX: 1, AF_INET: 2, AF_INET6: 10, AF_NETLINK: 16 } as const;
const familiesByCapability: Readonly<Record<string, readonly number[]>> = {
  CAP_NET_RAW: [17, 44], // AF_PACKET, AF_XDP
  CAP_NET_ADMIN: [15, 24], // AF_KEY, AF_PPPOX
};

/** personality(2): PER_LINUX and PER_LINUX32, each also with UNAME26, and the question which one it is. */
const personalities = [0, 0x8, 0x20000, 0x20008, 0xffffffff];

const namespaceFlags =
  CLONE.NEWNS | CLONE.NEWCGROUP | CLONE.NEWUTS | CLONE.NEWIPC | CLONE.NEWUSER | CLONE.NEWPID | CLONE.NEWNET;
const ENOSYS = 38;
const EPERM = 1;

const allow = (names: readonly string[]): OciSyscallRule => ({ names, action: 'SCMP_ACT_ALLOW' });

/** The kernel looks at the lower half of such an argument (int, unsigned int), whatever is in the upper: so does this. */
const allowValues = (name: string, index: number, values: readonly number[]): OciSyscallRule[] =>
  values.map((value) => ({
    ...allow([name]),
    args: [{ index, value: 0xffffffff, valueTwo: value, op: 'SCMP_CMP_MASKED_EQ' }],
  }));

/** Answers as a kernel that has no such call: programs then take another way. */
const absent = (name: string): OciSyscallRule => ({ names: [name], action: 'SCMP_ACT_ERRNO', errnoRet: ENOSYS });

/** The filter of a Tsfile container with these capabilities (`CAP_…`). For compileSeccomp, and for config.json. */
export function defaultSeccomp(capabilities: readonly string[]): OciSeccomp {
  const granted = <T>(table: Readonly<Record<string, readonly T[]>>): T[] =>
    Object.entries(table).flatMap(([capability, values]) => (capabilities.includes(capability) ? values : []));
  return {
    defaultAction: 'SCMP_ACT_ERRNO',
    defaultErrnoRet: EPERM,
    // Not x32, which nobody uses: the filter kills its calls.
    architectures: ['SCMP_ARCH_X86_64', 'SCMP_ARCH_X86'],
    syscalls: [
      allow([...new Set([...always, ...granted(byCapability)])]),
      ...allowValues('socket', 0, [...Object.values(families), ...granted(familiesByCapability)]),
      ...allowValues('socketpair', 0, [families.AF_UNIX]),
      // Its arguments are out of a filter's reach. i386 has socket(2) and the others of their own since Linux 4.3.
      absent('socketcall'),
      ...allowValues('personality', 0, personalities),
      ...(capabilities.includes('CAP_SYS_ADMIN') ? [] : cloneWithoutNamespaces),
    ],
  };
}

/** New processes and threads, in no new namespaces. clone3's flags are behind a pointer; the C libraries fall back. */
const cloneWithoutNamespaces: readonly OciSyscallRule[] = [
  {
    ...allow(['clone']),
    args: [{ index: 0, value: namespaceFlags, valueTwo: 0, op: 'SCMP_CMP_MASKED_EQ' }],
  },
  absent('clone3'),
];
