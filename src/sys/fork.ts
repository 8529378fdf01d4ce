import { closeSync } from 'node:fs';
import { Socket } from 'node:net';
import { TsvError } from '../model/errors.ts';
import { errnoName } from './errno.ts';
import { O, SIGCHLD } from './flags.ts';
import { allocate, loadCode, type Memory, NR, syscall, trySyscall, withBytes } from './libc.ts';
import {
  type Argument,
  fdNumber,
  firstFd,
  type Program,
  printStep,
  type Report,
  reportCodes,
  type Step,
} from './program.ts';

/*
 * How a program runs:
 *
 *   parent (JavaScript)                     child (machine code below, no JavaScript)
 *   lay out steps in memory
 *   block signals, clone ─────────────────▶ keep the named descriptors, close the rest
 *   unblock signals                          step, step, …
 *   on('unshared')  ◀──────── report ─────── write {code, value} to the status pipe
 *   (maps ids, moves interfaces)
 *   go() ───────────────────────────────────▶ read(go) returns
 *   on('forked', pid) ◀────── report ─────── clone(CLONE_PARENT): the real child; this one ends
 *   done() ◀── end of the status pipe ────── execve: the pipe is close-on-exec
 *   done() rejects ◀── {step, errno} ─────── a step failed; the child ends with 127
 */

/*
 * The interpreter, x86-64, position independent. It touches only registers, the steps and the report:
 *
 *   run(rdi = first step, rsi = report):          step: 10 quadwords
 *     rbx = rdi; rbp = rsi                          nr a1 a2 a3 a4 a5 a6 mode dest target
 *   next:
 *     if nr == -1 return a1
 *     rax = syscall(nr, a1 … a6)
 *     if dest: *dest = rax
 *     mode 1 (may):      next step
 *     mode 2 (fork):     rax == 0 ? next step : step = target
 *     mode 3 (positive): rax <= 0 ? fail : next step
 *     mode 4 (guard):    -4095 <= rax < 0 ? the step after the next : next step
 *     mode 0 (must):     -4095 <= rax < 0 ? fail : next step
 *   fail:
 *     report[1] = address of the step; report[2] = rax
 *     write(report[0], &report[1], 16); exit_group(127)
 */
const interpreter = Buffer.from(
  '53554889fb4889f5488b034883f8ff7470488b7b08488b7310488b53184c8b53204c8b43284c8b4b300f05488b4b404885c9740348890148' +
    '8b4b384883f901741a4883f902742f4883f90374224883f904740e483d01f0ffff732d4883c350eba7483d01f0ffff72f24883c350ebec48' +
    '85c07e14ebe54885c074e0488b5b48eb87488b43085d5bc34889451048895d08488b7d00488d7508ba10000000b8010000000f05bf7f0000' +
    '00b8e70000000f050f0b',
  'hex',
);

const stepBytes = 80;
const modes = { must: 0, may: 1, fork: 2, positive: 3, guard: 4 } as const;
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
}

/** How a failed step becomes an error; the default is TSV_SYSCALL. */
export type StepFailure = (step: string, errno: string) => TsvError;

/**
 * Forks a child that runs `program`. Descriptors `status` (write end) and `go` (read end) are added to the program's
 * own: steps may use `{fd: 'go'}`.
 */
export function fork(program: Program, failure: StepFailure = defaultFailure): ForkedChild {
  run ??= loadCode(interpreter);
  const [statusRead, statusWrite] = pipe();
  const [goRead, goWrite] = pipe();
  const full: Program = { fds: { status: statusWrite, go: goRead, ...program.fds }, steps: program.steps };
  try {
    const image = layOut(full);
    const pid = run(image.start, image.report);
    image.free();
    if (pid < 0) throw failure('clone', errnoName(-pid));
    return watchStatus(pid, statusRead, goWrite, image.steps, failure);
  } catch (error) {
    for (const fd of [statusRead, goWrite]) closeSync(fd);
    throw error;
  } finally {
    for (const fd of [statusWrite, goRead]) closeSync(fd);
  }
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
): ForkedChild {
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

interface Image {
  readonly start: bigint;
  readonly report: bigint;
  /** Steps by address, for error messages. */
  readonly steps: ReadonlyMap<bigint, Step>;
  free(): void;
}

/** Puts the program into memory: step table, then strings and structures. */
function layOut(program: Program): Image {
  const body: Step[] = [...prologue(program), ...program.steps];
  const size = 4096 + [...flatten(body)].reduce((sum, step) => sum + stepBytes + argumentBytes(step), 0);
  const memory = allocate(size);
  try {
    return fill(memory, body, program);
  } catch (error) {
    memory.free();
    throw error;
  }
}

function fill(memory: Memory, body: readonly Step[], program: Program): Image {
  const { bytes, address: base } = memory;
  const report = base;
  let top = 64;
  const reserve = (length: number): number => {
    const at = top;
    top = (top + length + 7) & ~7;
    return at;
  };
  const place = (content: Uint8Array): bigint => {
    const at = reserve(content.length);
    bytes.set(content, at);
    return base + BigInt(at);
  };
  const cString = (text: string): bigint => {
    if (text.includes('\0')) throw new TsvError('TSV_SYSCALL', `a NUL byte in '${text.replaceAll('\0', '\\0')}'`);
    return place(Buffer.from(`${text}\0`));
  };
  const labelled = new Map<bigint, Step>();
  /** Where each result is to be stored: the argument's own slot. */
  const slots = new Map<string, bigint>();
  const destinations: { at: number; name: string }[] = [];

  const encode = (argument: Argument, slot: bigint): bigint => {
    if (typeof argument === 'number' || typeof argument === 'bigint') return BigInt(argument);
    if (typeof argument === 'string') return cString(argument);
    if ('bytes' in argument) return place(argument.bytes);
    if ('fd' in argument) return BigInt(fdNumber(program, argument.fd));
    if ('words' in argument) {
      const content = Buffer.alloc(argument.words.length * 8);
      argument.words.forEach((word, i) => {
        content.writeBigInt64LE(BigInt(typeof word === 'object' ? fdNumber(program, word.fd) : word), i * 8);
      });
      return place(content);
    }
    if ('fdPath' in argument) return cString(`/proc/self/fd/${fdNumber(program, argument.fdPath)}`);
    if ('strings' in argument) {
      const pointers = [...argument.strings.map(cString), 0n];
      const table = Buffer.alloc(pointers.length * 8);
      pointers.forEach((pointer, i) => {
        table.writeBigInt64LE(pointer, i * 8);
      });
      return place(table);
    }
    if (slots.has(argument.result)) throw new TypeError(`syscall program: result '${argument.result}' is used twice`);
    slots.set(argument.result, slot);
    return 0n;
  };
  const put = (
    at: number,
    nr: number,
    args: readonly Argument[],
    mode: number,
    as: string | undefined,
    target = 0n,
  ) => {
    bytes.writeBigInt64LE(BigInt(nr), at);
    args.forEach((argument, i) => {
      bytes.writeBigInt64LE(encode(argument, base + BigInt(at + 8 + 8 * i)), at + 8 + 8 * i);
    });
    bytes.writeBigInt64LE(BigInt(mode), at + 56);
    bytes.writeBigInt64LE(target, at + 72);
    if (as !== undefined) destinations.push({ at, name: as });
  };
  const status = { fd: 'status' };
  const block = (steps: readonly Step[], tail: readonly Step[]): bigint => {
    const all = [...steps, ...tail];
    // One more than there are: the place for the interpreter's end mark.
    const start = reserve((all.length + 1) * stepBytes);
    all.forEach((step, i) => {
      const at = start + i * stepBytes;
      labelled.set(base + BigInt(at), step);
      if ('call' in step) put(at, NR[step.call], step.args, modes[step.mode ?? 'must'], step.as);
      else if ('report' in step) {
        const message = Buffer.alloc(16);
        message.writeBigInt64LE(BigInt(reportCodes[step.report]), 0);
        const where = place(message);
        if (step.value !== undefined) slots.set(step.value, where + 8n);
        put(at, NR.write, [status, where, 16], modes.must, undefined);
      } else put(at, NR.clone, [step.fork, 0, 0, 0, 0], modes.fork, step.as, block(step.parent, [endOfParent]));
    });
    bytes.writeBigInt64LE(-1n, start + all.length * stepBytes);
    return base + BigInt(start);
  };

  // The caller's part: block all signals (its handlers must not run in the child), clone, unblock, return the pid.
  const oldMask = place(new Uint8Array(8));
  const start = reserve(5 * stepBytes);
  const [clone, jump, unblock, end] = [1, 2, 3, 4].map((i) => start + i * stepBytes) as [
    number,
    number,
    number,
    number,
  ];
  put(start, NR.rt_sigprocmask, [2, { bytes: sigSetAll }, oldMask, 8], modes.may, undefined);
  put(clone, NR.clone, [SIGCHLD, 0, 0, 0, 0], modes.fork, '\0pid', base + BigInt(unblock));
  // The child goes on here. A call that does not exist "forks" to its target: a plain jump.
  put(jump, -2, [], modes.fork, undefined, block(body, [{ call: 'exit_group', args: [127] }]));
  put(unblock, NR.rt_sigprocmask, [2, oldMask, 0, 8], modes.may, undefined);
  bytes.writeBigInt64LE(-1n, end);
  slots.set('\0pid', base + BigInt(end + 8));

  for (const { at, name } of destinations) bytes.writeBigInt64LE(slots.get(name) ?? 0n, at + 64);
  bytes.writeBigInt64LE(BigInt(fdNumber(program, 'status')), 0);
  return { start: base + BigInt(start), report, steps: labelled, free: memory.free };
}

const endOfParent: Step = { call: 'exit_group', args: [0] };

/** First in every child: keep the named descriptors (close-on-exec) at fixed numbers, close all others, default signals. */
function prologue(program: Program): Step[] {
  const names = Object.keys(program.fds);
  const first = firstFd(program);
  return [
    ...names
      .filter((name) => (program.fds[name] ?? -1) >= 0)
      .map((name): Step => ({ call: 'dup3', args: [program.fds[name] ?? -1, { fd: name }, O.CLOEXEC] })),
    { call: 'close_range', args: [0, first - 1, 0] },
    { call: 'close_range', args: [first + names.length, 0xffffffff, 0] },
    // Node ignores SIGPIPE and SIGXFSZ, and an ignored signal stays ignored over execve.
    ...[13, 25].map((signal): Step => ({ call: 'rt_sigaction', args: [signal, { bytes: new Uint8Array(32) }, 0, 8] })),
  ];
}

function* flatten(steps: readonly Step[]): Generator<Step> {
  for (const step of steps) {
    yield step;
    if ('fork' in step) yield* flatten([...step.parent, endOfParent, endOfParent]);
  }
}

function argumentBytes(step: Step): number {
  if (!('call' in step)) return 64;
  return step.args.reduce<number>((sum, argument) => {
    if (typeof argument === 'string') return sum + Buffer.byteLength(argument) + 16;
    if (typeof argument === 'object' && 'fdPath' in argument) return sum + 40;
    if (typeof argument === 'object' && 'words' in argument) return sum + argument.words.length * 8 + 16;
    if (typeof argument === 'object' && 'bytes' in argument) return sum + argument.bytes.length + 16;
    if (typeof argument === 'object' && 'strings' in argument) {
      return sum + 16 + argument.strings.reduce((inner, text) => inner + Buffer.byteLength(text) + 24, 0);
    }
    return sum;
  }, 0);
}

/** Last before execve: signals unblocked, stdio in place. */
export function stdio(): Step[] {
  return [
    ...['stdin', 'stdout', 'stderr'].map((name, i): Step => ({ call: 'dup3', args: [{ fd: name }, i, 0] })),
    { call: 'rt_sigprocmask', args: [2, { bytes: new Uint8Array(8) }, 0, 8] },
  ];
}
