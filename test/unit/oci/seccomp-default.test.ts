import { describe, expect, test } from 'vitest';
import { defaultSeccomp } from '../../../src/oci/default-seccomp.ts';
import { compileSeccomp } from '../../../src/oci/seccomp.ts';
import { capabilityNames } from '../../../src/sys/capabilities.ts';
import { syscallNumber } from '../../../src/sys/libseccomp.ts';
import { actionName, evaluate, I386, X86_64 } from './seccomp-interpreter.ts';

const x32 = 0x40000000;
const answerOf =
  (capabilities: readonly string[]) =>
  (nr: number, args: readonly (number | bigint)[] = [], arch = X86_64): string =>
    actionName(evaluate(compileSeccomp(defaultSeccomp(capabilities)).filter, { arch, nr, args }));
const number = (name: string, architecture: 'x86_64' | 'x86' = 'x86_64'): number => {
  const nr = syscallNumber(name, architecture);
  return nr !== undefined && nr >= 0 ? nr : expect.fail(`${architecture} has no ${name}`);
};
const plain = answerOf([]);
const byName = (name: string, ...args: (number | bigint)[]): string => plain(number(name), args);

describe('the default filter', () => {
  test('compiles without a word, for any capability', () => {
    for (const capabilities of [[], [...capabilityNames], ...capabilityNames.map((name) => [name])])
      expect(compileSeccomp(defaultSeccomp(capabilities)).warnings).toEqual([]);
  });

  test('names every call once', () => {
    const names = (defaultSeccomp([...capabilityNames]).syscalls ?? []).flatMap((rule) =>
      rule.args === undefined ? rule.names : [],
    );
    expect(names.filter((name, i) => names.indexOf(name) !== i)).toEqual([]);
  });

  // asm/unistd_64.h and asm/unistd_32.h, so that no table of ours or libseccomp's is asked.
  test.each([
    ['mount', 165, 21],
    ['umount2', 166, 52],
    ['pivot_root', 155, 217],
    ['chroot', 161, 61],
    ['move_mount', 429, 429],
    ['open_tree', 428, 428],
    ['fsopen', 430, 430],
    ['mount_setattr', 442, 442],
    ['unshare', 272, 310],
    ['setns', 308, 346],
    ['keyctl', 250, 288],
    ['add_key', 248, 286],
    ['request_key', 249, 287],
    ['bpf', 321, 357],
    ['userfaultfd', 323, 374],
    ['perf_event_open', 298, 336],
    ['open_by_handle_at', 304, 342],
    ['io_uring_setup', 425, 425],
    ['io_uring_enter', 426, 426],
    ['io_uring_register', 427, 427],
    ['kexec_load', 246, 283],
    ['init_module', 175, 128],
    ['finit_module', 313, 350],
    ['delete_module', 176, 129],
    ['reboot', 169, 88],
    ['swapon', 167, 87],
    ['swapoff', 168, 115],
    ['settimeofday', 164, 79],
    ['clock_settime', 227, 264],
    ['quotactl', 179, 131],
    ['quotactl_fd', 443, 443],
    ['acct', 163, 51],
    ['iopl', 172, 110],
    ['ioperm', 173, 101],
    ['syslog', 103, 103],
    ['sethostname', 170, 74],
    ['setdomainname', 171, 121],
    ['lookup_dcookie', 212, 253],
    ['fanotify_init', 300, 338],
    ['kcmp', 312, 349],
    ['pidfd_getfd', 438, 438],
    ['process_madvise', 440, 440],
    ['mbind', 237, 274],
    ['vhangup', 153, 111],
  ])('denies %s to who has no capability for it, on x86-64 and i386', (_, native, compat) => {
    expect([plain(native), plain(compat, [], I386)]).toEqual(['ERRNO 1', 'ERRNO 1']);
  });

  test.each([
    [['CAP_SYS_ADMIN'], ['mount', 'umount2', 'unshare', 'setns', 'fsopen', 'clone3', 'sethostname']],
    [['CAP_SYS_PTRACE'], ['kcmp', 'pidfd_getfd', 'process_madvise']],
    [['CAP_SYS_CHROOT'], ['chroot']],
    [['CAP_DAC_READ_SEARCH'], ['open_by_handle_at']],
    [['CAP_SYS_MODULE'], ['init_module', 'finit_module', 'delete_module']],
    [['CAP_SYS_TIME'], ['settimeofday', 'clock_settime']],
    [['CAP_SYS_BOOT'], ['reboot']],
    [['CAP_SYS_NICE'], ['mbind', 'set_mempolicy']],
    [['CAP_BPF'], ['bpf']],
    [['CAP_PERFMON'], ['perf_event_open']],
    [['CAP_SYSLOG'], ['syslog']],
  ])('allows to %s what it is for, and to nobody else', (capabilities, names) => {
    const others = answerOf(capabilityNames.filter((name) => name !== 'CAP_SYS_ADMIN' && !capabilities.includes(name)));
    expect(names.map((name) => answerOf(capabilities)(number(name)))).toEqual(names.map(() => 'ALLOW'));
    expect(names.map((name) => others(number(name)))).not.toContain('ALLOW');
  });

  test('denies what no capability opens', () => {
    const all = answerOf([...capabilityNames]);
    const names = ['keyctl', 'add_key', 'request_key', 'userfaultfd', 'io_uring_setup', 'kexec_load', 'swapon'];
    expect(names.map((name) => all(number(name)))).toEqual(names.map(() => 'ERRNO 1'));
  });

  test('lets processes be made, but no namespaces', () => {
    const SIGCHLD = 17;
    const thread = 0x3d0f00; // as pthread_create
    for (const arch of [X86_64, I386]) {
      const clone = arch === X86_64 ? 56 : 120;
      expect([SIGCHLD, thread, 0x4111].map((flags) => plain(clone, [flags], arch))).toEqual(Array(3).fill('ALLOW'));
      for (const flag of [0x20000, 0x2000000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000])
        expect(plain(clone, [flag | SIGCHLD], arch), flag.toString(16)).toBe('ERRNO 1');
      expect(plain(435, [], arch), 'clone3').toBe('ERRNO 38');
    }
    expect(answerOf(['CAP_SYS_ADMIN'])(56, [0x10000000 | SIGCHLD])).toBe('ALLOW');
  });

  describe('has sockets', () => {
    const AF = { UNIX: 1, INET: 2, KEY: 15, INET6: 10, NETLINK: 16, PACKET: 17, ALG: 38, VSOCK: 40, XDP: 44 };
    const native = (family: number | bigint, call = 41) => plain(call, [family, 1, 0]);
    const compat = (family: number, call = 359) => plain(call, [family, 1, 0], I386);

    test('of the families that programs use', () => {
      for (const family of [AF.UNIX, AF.INET, AF.INET6, AF.NETLINK])
        expect([native(family), compat(family)], String(family)).toEqual(['ALLOW', 'ALLOW']);
    });

    test('of no others', () => {
      for (let family = 0; family < 64; family++) {
        if ([AF.UNIX, AF.INET, AF.INET6, AF.NETLINK].includes(family)) continue;
        expect([native(family), compat(family)], String(family)).toEqual(['ERRNO 1', 'ERRNO 1']);
      }
    });

    test('by the half of the argument that the kernel looks at', () => {
      const high = 0xdead_0000_0000n;
      expect([AF.ALG, AF.VSOCK, AF.INET].map((family) => native(high | BigInt(family)))).toEqual([
        'ERRNO 1',
        'ERRNO 1',
        'ALLOW',
      ]);
    });

    test('in pairs of AF_UNIX only', () => {
      expect([AF.UNIX, AF.INET, AF.ALG].map((family) => native(family, 53))).toEqual(['ALLOW', 'ERRNO 1', 'ERRNO 1']);
      expect([AF.UNIX, AF.ALG].map((family) => compat(family, 360))).toEqual(['ALLOW', 'ERRNO 1']);
    });

    test('not through socketcall, where nobody sees the family', () => {
      for (let call = 0; call <= 21; call++) expect(plain(102, [call], I386), String(call)).toBe('ERRNO 38');
    });

    test('of more families with the capability that they need', () => {
      const raw = answerOf(['CAP_NET_RAW']);
      const admin = answerOf(['CAP_NET_ADMIN']);
      expect([AF.PACKET, AF.XDP, AF.KEY, AF.ALG].map((family) => raw(41, [family]))).toEqual([
        'ALLOW',
        'ALLOW',
        'ERRNO 1',
        'ERRNO 1',
      ]);
      expect([AF.PACKET, AF.KEY, AF.VSOCK].map((family) => admin(41, [family]))).toEqual([
        'ERRNO 1',
        'ALLOW',
        'ERRNO 1',
      ]);
    });
  });

  test('has the usual personalities', () => {
    const ask = [0xffffffff, 0xffffffffffffffffn];
    expect([0, 8, 0x20000, 0x20008, ...ask].map((value) => byName('personality', value))).toEqual(
      Array(6).fill('ALLOW'),
    );
    // ADDR_NO_RANDOMIZE, READ_IMPLIES_EXEC, PER_SVR4
    expect([0x40000, 0x400000, 1].map((value) => byName('personality', value))).toEqual(Array(3).fill('ERRNO 1'));
  });

  test('kills calls of x32 and of unknown architectures', () => {
    for (const nr of [0, 41, 59, 165, 512, 1000]) expect(plain(x32 | nr), String(nr)).toBe('KILL_THREAD');
    expect(plain(63, [], 0xc00000b7)).toBe('KILL_THREAD');
  });

  test('answers ENOSYS to what is newer than the list', () => {
    expect([470, 1000, 0x3fffffff].map((nr) => plain(nr))).toEqual(Array(3).fill('ERRNO 38'));
    expect([470, 1000].map((nr) => plain(nr, [], I386))).toEqual(Array(2).fill('ERRNO 38'));
  });

  test.each([
    ['the C library', ['read', 'mmap', 'rseq', 'set_robust_list', 'prlimit64', 'getrandom', 'arch_prctl', 'futex']],
    ['apt and dpkg', ['rename', 'fsync', 'sync_file_range', 'fchownat', 'chmod', 'setresuid', 'setgroups', 'flock']],
    ['nginx and haproxy', ['epoll_wait', 'accept4', 'sendfile', 'splice', 'setsockopt', 'eventfd2', 'prctl']],
    ['mariadb', ['io_setup', 'io_submit', 'io_getevents', 'fallocate', 'sched_setscheduler', 'mlockall']],
    ['postgres', ['shmget', 'semget', 'semop', 'signalfd4', 'epoll_pwait', 'sync_file_range', 'kill']],
    ['java', ['mprotect', 'madvise', 'sched_getaffinity', 'getrusage', 'membarrier', 'tgkill', 'mincore']],
    ['node', ['epoll_pwait', 'statx', 'inotify_init1', 'pkey_alloc', 'copy_file_range', 'pidfd_open', 'pipe2']],
    ['Go programs', ['clone', 'futex', 'tgkill', 'sigaltstack', 'nanosleep', 'openat2', 'pidfd_send_signal', 'waitid']],
    ['strace', ['ptrace', 'process_vm_readv']],
    ['the newest', ['close_range', 'openat2', 'faccessat2', 'landlock_restrict_self', 'futex_waitv', 'memfd_secret']],
  ])('lets %s work', (_, names) => {
    expect(names.filter((name) => byName(name) !== 'ALLOW')).toEqual([]);
  });

  test('lets programs of i386 work', () => {
    const names = [
      'mmap2',
      'fstat64',
      'clock_gettime64',
      'futex_time64',
      'set_thread_area',
      'ipc',
      '_llseek',
      'waitpid',
    ];
    expect(names.filter((name) => plain(number(name, 'x86'), [], I386) !== 'ALLOW')).toEqual([]);
  });
});
