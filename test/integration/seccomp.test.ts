import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { defaultSeccomp } from '../../src/oci/default-seccomp.ts';
import { compileSeccomp, SECCOMP_SET_MODE_FILTER } from '../../src/oci/seccomp.ts';
import type { OciSeccomp } from '../../src/oci/spec.ts';
import { type ExitStatus, waitExit } from '../../src/sys/children.ts';
import { dataAddress, elfExecutable } from '../../src/sys/elf.ts';
import { CLONE, O, PR } from '../../src/sys/flags.ts';
import { fork, stdio } from '../../src/sys/fork.ts';
import type { Step } from '../../src/sys/program.ts';
import { isRoot } from '../support/root.ts';

/*
 * Real processes under real filters. Each attack is made twice: without the filter, to show that this kernel would let
 * it happen, and with it.
 */

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'seccomp-'));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const containerDefault = defaultSeccomp(['CAP_CHOWN', 'CAP_SETUID', 'CAP_SETGID', 'CAP_NET_BIND_SERVICE']);

interface Outcome {
  readonly status: ExitStatus | undefined;
  readonly output: Buffer;
}

/** Runs a program under a filter; what it writes to stdout and stderr is its output. */
async function run(
  argv: readonly string[],
  seccomp: OciSeccomp | undefined,
  before: readonly Step[] = [],
): Promise<Outcome> {
  const file = join(folder, 'output');
  const stdin = openSync('/dev/null', 'r');
  const stdout = openSync(file, 'w');
  try {
    const child = fork({
      fds: { stdin, stdout, stderr: stdout },
      steps: [
        ...before,
        { call: 'prctl', args: [PR.SET_NO_NEW_PRIVS, 1, 0, 0, 0] },
        ...(seccomp === undefined ? [] : [install(seccomp)]),
        ...stdio(),
        { call: 'execve', args: [argv[0] ?? '', { strings: argv }, { strings: ['PATH=/usr/bin:/bin'] }] },
      ],
    });
    const status = waitExit(child.pid);
    await child.executed;
    return { status: await status, output: readFileSync(file) };
  } finally {
    closeSync(stdin);
    closeSync(stdout);
  }
}

function install(seccomp: OciSeccomp): Step {
  const { filter, length, flags } = compileSeccomp(seccomp);
  return { call: 'seccomp', args: [SECCOMP_SET_MODE_FILTER, flags, { words: [length, { bytes: filter }] }] };
}

/** A system call by `syscall`, or by `int 0x80` as programs of i386 make it. Bytes are passed by address. */
interface Call {
  readonly compat?: true;
  readonly nr: number;
  readonly args?: readonly (number | string | Uint8Array)[];
}

/*
 * Makes the calls of a table, and writes what each returned over its first quadword, and the table to stdout:
 *
 *     mov r12d, 0x10000008; mov r13, [r12 - 8]            ; the table, how many
 *   next:
 *     test r13, r13; jz done
 *     mov rax, [r12 + 8]
 *     cmp qword ptr [r12], 0; jne compat
 *     mov rdi, rsi, rdx, r10, r8, r9 <- [r12 + 16 …]; syscall; jmp store
 *   compat:
 *     mov ebx, ecx, edx, esi, edi, ebp <- [r12 + 16 …]; int 0x80; movsxd rax, eax
 *   store:
 *     mov [r12], rax; add r12, 64; dec r13; jmp next
 *   done:
 *     write(1, 0x10000008, r12 - 0x10000008); exit_group(0)
 */
const caller = Buffer.from(
  '41bc080000104d8b6c24f84d85ed745e498b44240849833c24007522498b7c2410498b742418498b5424204d8b5424284d8b4424304d8b4c24' +
    '380f05eb23418b5c2410418b4c2418418b542420418b742428418b7c2430418b6c2438cd804863c0498904244983c44049ffcdeb9db80100' +
    '0000bf01000000be080000104c89e24829f20f05b8e700000031ff0f05',
  'hex',
);
const entryBytes = 64;

function callerExecutable(calls: readonly Call[]): Buffer {
  const table = Buffer.alloc(8 + calls.length * entryBytes);
  table.writeBigUInt64LE(BigInt(calls.length), 0);
  const parts: Buffer[] = [table];
  let end = table.length;
  const placed = new Map<string | Uint8Array, bigint>();
  /** The same bytes in several calls are one piece of memory: a call can use what another has filled in. */
  const place = (content: string | Uint8Array): bigint => {
    const address = placed.get(content) ?? dataAddress + BigInt(end);
    if (placed.has(content)) return address;
    placed.set(content, address);
    const padded = Buffer.alloc(Math.ceil(content.length / 8) * 8);
    padded.set(Buffer.from(content));
    parts.push(padded);
    end += padded.length;
    return address;
  };
  calls.forEach(({ compat, nr, args = [] }, i) => {
    const at = 8 + i * entryBytes;
    const words = args.map((arg) => (typeof arg === 'number' ? BigInt(arg) : place(arg)));
    [compat ? 1n : 0n, BigInt(nr), ...words].forEach((word, j) => {
      table.writeBigInt64LE(word, at + j * 8);
    });
  });
  return elfExecutable(caller, Buffer.concat(parts));
}

/** What each call returns: a result, or a negative errno. */
async function results(
  calls: readonly Call[],
  seccomp: OciSeccomp | undefined,
  before: readonly Step[] = [],
): Promise<number[]> {
  const { status, output } = await attempt(calls, seccomp, before);
  expect(status).toEqual({ code: 0 });
  return calls.map((_, i) => Number(output.readBigInt64LE(i * entryBytes)));
}

async function attempt(
  calls: readonly Call[],
  seccomp: OciSeccomp | undefined,
  before: readonly Step[] = [],
): Promise<Outcome> {
  const program = join(folder, 'caller');
  writeFileSync(program, callerExecutable(calls), { mode: 0o755 });
  return run([program], seccomp, before);
}

const EPERM = -1;
const ENOSYS = -38;
const EAFNOSUPPORT = -97;
const SIGSYS = 31;

/** Root of a user namespace with mounts and a host name of its own: whoever runs this test. */
const ownNamespaces: Step[] = [
  { call: 'unshare', args: [CLONE.NEWUSER | CLONE.NEWNS | CLONE.NEWUTS] },
  { call: 'open', args: ['/proc/self/uid_map', O.WRONLY, 0], as: 'map' },
  { call: 'write', args: [{ result: 'map' }, `0 ${process.geteuid?.()} 1`, `0 ${process.geteuid?.()} 1`.length] },
  { call: 'close_range', args: [3, 8, 0] },
];

const words = (...values: number[]): Uint8Array => new Uint8Array(Uint32Array.from(values).buffer);
const socketTypes = { stream: 1, seqpacket: 5 } as const;
const family = { UNIX: 1, INET: 2, ALG: 38, VSOCK: 40 } as const;
/** AF_ALG has only SOCK_SEQPACKET. */
const kindOf = (domain: number): number => (domain === family.ALG ? socketTypes.seqpacket : socketTypes.stream);
const bySyscall = (domain: number): Call => ({ nr: 41, args: [domain, kindOf(domain), 0] });
const byInt80 = (domain: number): Call => ({ compat: true, nr: 359, args: [domain, kindOf(domain), 0] });
const bySocketcall = (domain: number): Call => ({
  compat: true,
  nr: 102,
  args: [1, words(domain, kindOf(domain), 0)],
});

describe('under the default filter', () => {
  test('S15 a process is in mode 2, and can get no more privileges', async () => {
    const status = async (seccomp: OciSeccomp | undefined): Promise<string[]> =>
      (await run(['/bin/cat', '/proc/self/status'], seccomp)).output.toString().match(/^(Seccomp|NoNewPrivs):.*/gm) ??
      [];
    expect(await status(undefined)).toEqual(['NoNewPrivs:\t1', 'Seccomp:\t0']);
    expect(await status(containerDefault)).toEqual(['NoNewPrivs:\t1', 'Seccomp:\t2']);
  });

  describe('S15 a process', () => {
    const handle = words(128, ...Array<number>(33).fill(0));
    const attacks: readonly [string, ...Call[]][] = [
      ['keyctl', { nr: 250, args: [0, -3, 1] }],
      ['add_key', { nr: 248, args: ['user\0', 'tsv-test\0', 'x', 1, -2] }],
      ['userfaultfd', { nr: 323, args: [1] }],
      ['unshare to make a user namespace', { nr: 272, args: [CLONE.NEWUSER] }],
      ['io_uring_setup', { nr: 425, args: [1, new Uint8Array(120)] }],
    ];
    const rootAttacks: readonly [string, ...Call[]][] = [
      ['bpf', { nr: 321, args: [0, words(2, 4, 4, 1, ...Array<number>(28).fill(0)), 128] }],
      ['perf_event_open', { nr: 298, args: [words(1, 128, ...Array<number>(30).fill(0)), 0, -1, -1, 0] }],
      [
        'open_by_handle_at',
        { nr: 2, args: ['/\0', O.RDONLY, 0] },
        { nr: 303, args: [-100, '/etc\0', handle, new Uint8Array(8), 0] },
        { nr: 304, args: [3, handle, O.RDONLY] },
      ],
    ];

    test.each(attacks)('may not use %s', async (_, ...calls) => {
      expect((await results(calls, undefined)).at(-1)).toSatisfy((result: number) => result >= 0 || result === ENOSYS);
      expect((await results(calls, containerDefault)).at(-1)).toBe(EPERM);
    });

    test.skipIf(!isRoot).each(rootAttacks)('that is root may not use %s', async (_, ...calls) => {
      expect((await results(calls, undefined)).at(-1)).toSatisfy((result: number) => result >= 0 || result === ENOSYS);
      expect((await results(calls, containerDefault)).at(-1)).toBe(EPERM);
    });

    test.skipIf(!isRoot)('that is root may not load a kernel', async () => {
      // More segments than there can be: a kernel that would listen says EINVAL.
      const load: Call = { nr: 246, args: [0, 17, 0, 0] };
      expect(await results([load], undefined)).toSatisfy(([result]) => [-22, ENOSYS].includes(result));
      expect(await results([load], containerDefault)).toEqual([EPERM]);
    });
  });

  test('S15 root of a user namespace may not mount, and make or enter no namespaces', async () => {
    const calls: Call[] = [
      { nr: 165, args: ['none\0', `${folder}\0`, 'tmpfs\0', 0, 0] },
      { nr: 166, args: [`${folder}\0`, 2] },
      { nr: 2, args: ['/proc/self/ns/uts\0', O.RDONLY, 0] },
      { nr: 308, args: [3, CLONE.NEWUTS] },
      { nr: 272, args: [CLONE.NEWNS] },
    ];
    expect(await results(calls, undefined, ownNamespaces)).toEqual([0, 0, 3, 0, 0]);
    expect(await results(calls, containerDefault, ownNamespaces)).toEqual([EPERM, EPERM, 3, EPERM, EPERM]);
  });

  test('S15 clone makes no namespaces, and clone3 does not exist', async () => {
    // A child would go on with the table: none is made, since CLONE_THREAD needs CLONE_SIGHAND, and EINVAL is from behind the filter.
    const CLONE_THREAD = 0x10000;
    const calls: Call[] = [
      { nr: 56, args: [CLONE_THREAD, 0, 0, 0, 0] },
      { nr: 56, args: [CLONE_THREAD | CLONE.NEWUSER, 0, 0, 0, 0] },
      { nr: 435, args: [0, 0] },
    ];
    const EINVAL = -22;
    expect(await results(calls, undefined)).toEqual([EINVAL, EINVAL, EINVAL]);
    expect(await results(calls, containerDefault)).toEqual([EINVAL, EPERM, ENOSYS]);
  });

  describe('S15 sockets', () => {
    const ways = [
      ['x86-64', bySyscall, EPERM],
      ['i386', byInt80, EPERM],
      ["i386's socketcall", bySocketcall, ENOSYS],
    ] as const;

    test.each(ways)('of AF_ALG and AF_VSOCK are not to be had through %s', async (_, way, denied) => {
      const calls = [way(family.ALG), way(family.VSOCK)];
      for (const result of await results(calls, undefined))
        expect(result).toSatisfy((value: number) => value >= 0 || value === EAFNOSUPPORT);
      expect(await results(calls, containerDefault)).toEqual([denied, denied]);
    });

    test('of AF_ALG are not to be had with noise in the half of the argument that the kernel drops', async () => {
      const call: Call = { nr: 41, args: [2 ** 40 + family.ALG, socketTypes.seqpacket, 0] };
      const inet: Call = { nr: 41, args: [2 ** 40 + family.INET, socketTypes.stream, 0] };
      const [alg, other] = await results([call, inet], undefined);
      expect([alg === EAFNOSUPPORT || Number(alg) >= 0, Number(other) >= 0]).toEqual([true, true]);
      const [filtered, allowed] = await results([call, inet], containerDefault);
      expect([filtered, Number(allowed) >= 0]).toEqual([EPERM, true]);
    });

    test('of the usual kinds are to be had', async () => {
      const calls = [family.UNIX, family.INET].flatMap((domain) => [bySyscall(domain), byInt80(domain)]);
      expect((await results(calls, containerDefault)).filter((result) => result < 0)).toEqual([]);
    });
  });

  test.each([
    ['socket', 0x40000000 | 41],
    ['getpid', 0x40000000 | 39],
    ['execve as only x32 has it', 0x40000000 | 520],
  ])('S16 a call by the numbers of x32 (%s) ends the process', async (_, nr) => {
    const calls: Call[] = [{ nr, args: [family.ALG, socketTypes.seqpacket, 0] }];
    expect((await attempt(calls, undefined)).status).toEqual({ code: 0 });
    expect((await attempt(calls, containerDefault)).status).toEqual({ signal: SIGSYS });
  });

  test('S16 calls of i386 end a process whose profile has x86-64 only', async () => {
    const calls: Call[] = [{ compat: true, nr: 20 }];
    expect(await results(calls, containerDefault)).toEqual([expect.any(Number)]);
    expect((await attempt(calls, { defaultAction: 'SCMP_ACT_ALLOW' })).status).toEqual({ signal: SIGSYS });
  });

  test('calls that no kernel has yet do not exist, rather than being forbidden', async () => {
    const calls: Call[] = [{ nr: 1000 }, { compat: true, nr: 1000 }];
    expect(await results(calls, containerDefault)).toEqual([ENOSYS, ENOSYS]);
  });

  test('a shell with pipes and files works', async () => {
    const script =
      'cd "$1" && echo hello > a && cp a b && ln -s b c && chmod 600 c && cat a b c | sort | uniq -c && rm a b c';
    const { status, output } = await run(['/bin/sh', '-euc', script, 'sh', folder], containerDefault);
    expect({ status, output: output.toString().trim() }).toEqual({ status: { code: 0 }, output: '3 hello' });
  });

  test('node works: threads, children, sockets, files, watching, compiled code', async () => {
    const script = `
      const { Worker } = require('node:worker_threads');
      const { once } = require('node:events');
      const net = require('node:net'), fs = require('node:fs');
      (async () => {
        const [answer] = await once(new Worker('require("worker_threads").parentPort.postMessage(6 * 7)', { eval: true }), 'message');
        const child = require('node:child_process').execFileSync('/bin/echo', ['child'], { encoding: 'utf8' }).trim();
        const server = net.createServer((socket) => socket.end('server')).listen(0, '127.0.0.1');
        await once(server, 'listening');
        const [data] = await once(net.connect(server.address().port, '127.0.0.1'), 'data');
        server.close();
        fs.watch('.').close();
        console.log(answer, child, String(data), (await fs.promises.readdir('/')).includes('proc'));
      })();`;
    const { status, output } = await run([process.execPath, '-e', script], containerDefault);
    expect({ status, output: output.toString() }).toEqual({ status: { code: 0 }, output: '42 child server true\n' });
  });
});

describe('a profile of a bundle', () => {
  test('answers, kills and lets through as it says', async () => {
    const rule = (name: string, action: string, errnoRet?: number) => ({
      names: [name],
      action,
      ...(errnoRet === undefined ? {} : { errnoRet }),
    });
    const profile: OciSeccomp = {
      defaultAction: 'SCMP_ACT_ALLOW',
      flags: ['SECCOMP_FILTER_FLAG_LOG', 'SECCOMP_FILTER_FLAG_SPEC_ALLOW', 'SECCOMP_FILTER_FLAG_TSYNC'],
      syscalls: [
        rule('getpid', 'SCMP_ACT_ERRNO', 100),
        rule('getppid', 'SCMP_ACT_ERRNO'),
        rule('getuid', 'SCMP_ACT_LOG'),
      ],
    };
    expect(await results([{ nr: 39 }, { nr: 110 }, { nr: 102 }], profile)).toEqual([-100, -1, process.getuid?.()]);
    for (const action of ['SCMP_ACT_KILL', 'SCMP_ACT_KILL_PROCESS', 'SCMP_ACT_TRAP']) {
      const { status } = await attempt([{ nr: 39 }], { ...profile, syscalls: [rule('getpid', action)] });
      expect(status, action).toEqual({ signal: SIGSYS });
    }
  });
});
