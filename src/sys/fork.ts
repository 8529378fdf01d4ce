import { closeSync, writeSync } from 'node:fs';
import { Socket } from 'node:net';
import { TsvError } from '../model/errors.ts';
import { dataAddress, elfExecutable } from './elf.ts';
import { errnoName } from './errno.ts';
import { AT, CLONE, O, SIGCHLD } from './flags.ts';
import { layOut } from './image.ts';
import { entryCode, interpreter } from './interpreter.ts';
import { allocate, loadCode, syscall, syscallError, trySyscall, withBytes, withCString } from './libc.ts';
import { type Program, printStep, type Report, reportCodes, type Step } from './program.ts';

/*
 * How a program runs:
 *
 *   parent (JavaScript)                     child
 *   lay the program out as an executable
 *   block signals, vfork ─────────────────▶ keep the named descriptors, execute that (interpreter.s, no JavaScript)
 *   unblock signals                          close all other descriptors; step, step, …
 *   on('unshared')  ◀──────── report ─────── write {code, value} to the status pipe
 *   (maps ids, moves interfaces)
 *   go() ───────────────────────────────────▶ read(go) returns
 *   on('forked', pid) ◀────── report ─────── clone(CLONE_PARENT): the real child; this one ends
 *   done() ◀── end of the status pipe ────── execve: the pipe is close-on-exec
 *   done() rejects ◀── {step, errno} ─────── a step failed; the child ends with 127
 *
 * The executable exists in memory only (memfd_create(2)), once for each child: nothing of Node, neither its memory nor
 * its file as /proc/PID/exe, is in reach of what the child enters.
 */

const sigSetAll = Buffer.alloc(8, 0xff);

let run: ((steps: bigint, report: bigint) => number) | undefined;

export interface ForkedChild {
  /** The process that runs the program's first part; it ends by itself when the program forks. */
  readonly pid: number;
  /** Resolves with the value when the child sends this report; rejects when it fails or ends before. */
  reported(report: Report): Promise<number>;
  /** Lets a child that reads a byte of descriptor `go` continue; once per read. */
  go(): void;
  /** Ends a child that still waits for `go`; without effect on one that went on. */
  abandon(): void;
  /** Resolves when the program has executed its command; rejects with the step that failed. */
  readonly executed: Promise<void>;
  /** The number that one of the program's descriptors has in the child. */
  fdNumber(name: string): number;
}

/** How a failed step becomes an error; the default is TSV_SYSCALL. */
export type StepFailure = (step: string, errno: string) => TsvError;

/**
 * Forks a child that runs `program`. Descriptors `status` (write end) and `go` (read end) are added to the program's
 * own: steps may use `{fd: 'go'}`.
 */
export function fork(program: Program, failure: StepFailure = defaultFailure): ForkedChild {
  const [statusRead, statusWrite] = pipe();
  const [goRead, goWrite] = pipe();
  // The highest number is closed last by execve: when the pipe ends, all others have been.
  const full: Program = { fds: { go: goRead, ...program.fds, status: statusWrite }, steps: program.steps };
  let executable: number | undefined;
  try {
    const { fdNumber, first, last } = numbering(full.fds);
    const free = Object.keys(full.fds).filter((name) => (full.fds[name] ?? -1) < 0);
    const image = layOut([...prologue(first, last, free), ...full.steps], dataAddress, fdNumber);
    const code = Buffer.concat([entryCode(image.start, image.report), interpreter]);
    executable = memoryFile('tsv-child', elfExecutable(code, image.bytes));
    const pid = spawn(full.fds, executable, first);
    if (pid < 0) throw failure('clone', errnoName(-pid));
    return { ...watchStatus(pid, statusRead, goWrite, image.steps, failure), fdNumber };
  } catch (error) {
    for (const fd of [statusRead, goWrite]) closeSync(fd);
    throw error;
  } finally {
    for (const fd of [statusWrite, goRead, executable]) if (fd !== undefined) closeSync(fd);
  }
}

/**
 * In the child the program's descriptors are numbered in their order, above all of theirs in the parent, above stdio and
 * what a launched program finds beside it (LaunchRequest).
 */
function numbering(fds: Program['fds']) {
  const names = Object.keys(fds);
  const first = Math.max(31, ...Object.values(fds)) + 1;
  const fdNumber = (name: string): number => {
    const index = names.indexOf(name);
    if (index < 0) throw new TypeError(`syscall program: no descriptor '${name}'`);
    return first + index;
  };
  return { fdNumber, first, last: first + names.length - 1 };
}

/**
 * A new process that executes `executable` with the descriptors at their numbers. vfork(2): the child runs in this
 * process's memory until it executes; it changes nothing there but the results of its own steps.
 */
function spawn(fds: Program['fds'], executable: number, first: number): number {
  run ??= loadCode(interpreter);
  const memory = allocate(1 << 16);
  try {
    const entries = Object.entries(fds);
    // The executable goes out of the way of the numbers that are taken next.
    const aside = first + entries.length;
    const mode = 'may'; // this process itself must not fail here
    const oldMask = memory.address + BigInt(memory.bytes.length - 8);
    const steps: Step[] = [
      // Handlers of this process must not run in the child.
      { call: 'rt_sigprocmask', args: [2, { bytes: sigSetAll }, oldMask, 8], mode },
      {
        fork: CLONE.VM | CLONE.VFORK | SIGCHLD,
        as: 'pid',
        parent: [{ call: 'rt_sigprocmask', args: [2, oldMask, 0, 8], mode }, { end: 'pid' }],
      },
      ...(executable === aside ? [] : [{ call: 'dup3', args: [executable, aside, O.CLOEXEC] } satisfies Step]),
      ...entries.flatMap(([, fd], i): Step[] => (fd < 0 ? [] : [{ call: 'dup3', args: [fd, first + i, 0] }])),
      { call: 'execveat', args: [aside, '', { strings: ['tsv-child'] }, { strings: [] }, AT.EMPTY_PATH] },
    ];
    const image = layOut(steps, memory.address, () => fds.status ?? -1);
    memory.bytes.set(image.bytes);
    return run(image.start, image.report);
  } finally {
    memory.free();
  }
}

/**
 * A file in memory only, close-on-exec (memfd_create(2)). Unless it is to be written, nobody can change it any more
 * (F_GET_SEALS(2const)).
 */
export function memoryFile(name: string, content: Uint8Array, { writable = false } = {}): number {
  const [CLOEXEC, ALLOW_SEALING, EXEC] = [1, 2, 0x10];
  const make = (flags: number): number =>
    withCString(name, (address) => trySyscall('memfd_create', address, CLOEXEC | ALLOW_SEALING | flags));
  let fd = make(EXEC);
  if (fd < 0) fd = make(0); // before Linux 6.3 there was no such flag
  if (fd < 0) throw syscallError('memfd_create', 'making a file in memory', -fd);
  if (content.length > 0) writeSync(fd, content, 0, content.length, 0);
  if (!writable) {
    const [F_ADD_SEALS, SEAL_SEAL, SEAL_SHRINK, SEAL_GROW, SEAL_WRITE] = [1033, 1, 2, 4, 8];
    syscall('fcntl', 'sealing a file in memory', fd, F_ADD_SEALS, SEAL_SEAL | SEAL_SHRINK | SEAL_GROW | SEAL_WRITE);
  }
  return fd;
}

const defaultFailure: StepFailure = (step, errno) => new TsvError('TSV_SYSCALL', `${step}: ${errno}`);

export function pipe(): [read: number, write: number] {
  return withBytes(new Uint8Array(8), (address, bytes) => {
    syscall('pipe2', 'making a pipe', address, O.CLOEXEC);
    return [bytes.readInt32LE(0), bytes.readInt32LE(4)];
  });
}

function watchStatus(
  pid: number,
  statusRead: number,
  goWrite: number,
  steps: ReadonlyMap<bigint, Step>,
  failure: StepFailure,
): Omit<ForkedChild, 'fdNumber'> {
  const waiting = new Map<number, { resolve: (value: number) => void; reject: (error: Error) => void }>();
  const arrived = new Map<number, number>();
  let failed: TsvError | undefined;
  let ended = false;
  let goOpen = true;
  const closeGo = () => {
    if (goOpen) closeSync(goWrite);
    goOpen = false;
  };
  const status = new Socket({ fd: statusRead, readable: true, writable: false });
  let pending = Buffer.alloc(0);
  const executed = new Promise<void>((resolve, reject) => {
    status.on('data', (data: Buffer) => {
      pending = Buffer.concat([pending, data]);
      for (; pending.length >= 16; pending = pending.subarray(16)) {
        const tag = pending.readBigInt64LE(0);
        const value = Number(pending.readBigInt64LE(8));
        const step = steps.get(tag);
        if (step !== undefined) {
          failed = failure(printStep(step), value === 0 ? 'the agent ended' : errnoName(-value));
        } else {
          arrived.set(Number(tag), value);
          waiting.get(Number(tag))?.resolve(value);
        }
      }
    });
    status.on('close', () => {
      ended = true;
      closeGo();
      for (const waiter of waiting.values()) waiter.reject(failed ?? failure('the child', 'ended early'));
      if (failed === undefined) resolve();
      else reject(failed);
    });
  });
  executed.catch(() => {}); // whoever waits for a report hears of it there
  return {
    pid,
    executed,
    reported: (report) =>
      new Promise((resolve, reject) => {
        const code = reportCodes[report];
        const value = arrived.get(code);
        if (value !== undefined) resolve(value);
        else if (ended) reject(failed ?? failure('the child', 'ended early'));
        else waiting.set(code, { resolve, reject });
      }),
    go: () => {
      if (goOpen) withBytes(new Uint8Array([1]), (address) => trySyscall('write', goWrite, address, 1)); // EPIPE: it failed, and says so
    },
    abandon: closeGo,
  };
}

/** First in every child: the named descriptors are close-on-exec, all others closed, signals as a new program expects. */
function prologue(first: number, last: number, free: readonly string[]): Step[] {
  const CLOSE_RANGE_CLOEXEC = 4;
  return [
    { call: 'close_range', args: [0, first - 1, 0] },
    { call: 'close_range', args: [last + 1, 0xffffffff, 0] },
    { call: 'close_range', args: [first, last, CLOSE_RANGE_CLOEXEC] },
    // No number of ours is ever given to something else that the program opens.
    ...free.map((name): Step => ({ call: 'dup3', args: [{ fd: 'go' }, { fd: name }, O.CLOEXEC] })),
    // Node ignores SIGPIPE and SIGXFSZ, and an ignored signal stays ignored over execve.
    ...[13, 25].map((signal): Step => ({ call: 'rt_sigaction', args: [signal, { bytes: new Uint8Array(32) }, 0, 8] })),
  ];
}

/** Last before execve: signals unblocked, stdio in place. */
export function stdio(): Step[] {
  return [
    ...['stdin', 'stdout', 'stderr'].map((name, i): Step => ({ call: 'dup3', args: [{ fd: name }, i, 0] })),
    { call: 'rt_sigprocmask', args: [2, { bytes: new Uint8Array(8) }, 0, 8] },
  ];
}
