import {
  closeSync,
  constants,
  fstatSync,
  ftruncateSync,
  lstatSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  watch,
  writeSync,
} from 'node:fs';
import { createConnection } from 'node:net';
import { dirname, join } from 'node:path';
import { timesRecord, timesRecordBytes } from '../../src/sys/console-times.ts';

/**
 * A log that never takes more than twice `maxBytes`: the file, and the one before it as FILE.1. Beside it, and bounded in the
 * same way, are the times of its lines; see console-times.ts.
 */
export interface BoundedLog {
  /** Never throws: a full disk costs the log its bytes, not the machine its console. */
  append(data: Buffer): void;
  close(): void;
}

export const consoleLogBytes = 16 << 20;
/** Of QEMU's own words. */
const qemuLogBytes = 1 << 20;

const appendFlags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW;
const newline = 10;

/** Of a machine's console.log. */
export const timesFile = (logFile: string): string => join(dirname(logFile), 'console.times');

/** Opens (and continues) a bounded log. @throws the open(2) error, ELOOP for a symlink. */
export function openBoundedLog(file: string, maxBytes: number = consoleLogBytes, now = Date.now): BoundedLog {
  let log = openForAppend(file);
  let times = openForAppend(timesFile(file));
  let stampedMs: number | undefined;
  /** The next byte begins a line, or what came before it was somebody else's. */
  let lineBegins = true;
  const close = () => {
    for (const { fd } of [log, times]) if (fd !== -1) closeSync(fd);
    log = times = { fd: -1, size: 0 };
  };
  const rotate = () => {
    close();
    beginLog(file);
    log = openForAppend(file);
    times = openForAppend(timesFile(file));
    lineBegins = true;
    stampedMs = undefined;
  };
  /** One record for each millisecond in which a line began, before what it is about. */
  const stamp = (part: Buffer) => {
    const begin = lineBegins ? 0 : part.indexOf(newline) + 1;
    const ms = now();
    if (ms === stampedMs || begin === part.length || (begin === 0 && !lineBegins)) return;
    times.size += writeSync(times.fd, timesRecord(log.size + begin, BigInt(ms) * 1_000_000n));
    stampedMs = ms;
  };
  return {
    append(data) {
      try {
        for (let rest = data; rest.length > 0 && log.fd !== -1; ) {
          if (log.size >= maxBytes || times.size + timesRecordBytes > maxBytes) rotate();
          const part = rest.subarray(0, maxBytes - log.size);
          stamp(part);
          const written = writeSync(log.fd, part);
          log.size += written;
          lineBegins = part[written - 1] === newline;
          rest = rest.subarray(written);
        }
      } catch {
        // ENOSPC, EIO: best effort, see the interface.
      }
    },
    close,
  };
}

function openForAppend(file: string): { readonly fd: number; size: number } {
  const fd = openSync(file, appendFlags, 0o600);
  return { fd, size: fstatSync(fd).size };
}

/**
 * Puts the log of the start before aside as FILE.1, and its times: what is in FILE afterwards belongs to this start. The log
 * goes first: readers know by that whose times they see.
 */
export function beginLog(file: string): void {
  if (lstatSync(file, { throwIfNoEntry: false }) === undefined) return;
  const times = timesFile(file);
  renameSync(file, `${file}.1`);
  // One of an older version has no times, and must not get those of the log before it.
  if (lstatSync(times, { throwIfNoEntry: false }) === undefined) rmSync(`${times}.1`, { force: true });
  else renameSync(times, `${times}.1`);
}

/**
 * Keeps a log that another process appends to (O_APPEND) below `maxBytes`, by emptying it when it grows beyond.
 * @returns ends the watch.
 */
export function boundForeignLog(file: string, maxBytes: number = qemuLogBytes): () => void {
  const check = () => {
    try {
      const fd = openSync(file, constants.O_WRONLY | constants.O_NOFOLLOW);
      try {
        if (fstatSync(fd).size > maxBytes) ftruncateSync(fd);
      } finally {
        closeSync(fd);
      }
    } catch {
      // gone: then it takes no space
    }
  };
  try {
    const watcher = watch(file, { persistent: false }, check);
    watcher.on('error', () => {});
    check();
    return () => watcher.close();
  } catch {
    return () => {}; // no such file, or no inotify watch left: it is emptied at the next start
  }
}

/** A running machine's serial console: everything it prints goes to the log; the end of it is at hand. */
export interface Console {
  /** The last lines, without control characters and escape sequences: safe to print on a user's terminal. */
  lastLines(count: number): string[];
  /** Calls `listener` with what is printed from now on, byte for byte; the result ends that. */
  follow(listener: (data: Buffer) => void): () => void;
  /** Types into it. `done` when the machine's side has taken it, or is gone. */
  write(data: Buffer, done: (error?: Error | null) => void): void;
  /** Fires with the first output since the machine's start. */
  readonly printed: Promise<void>;
  /** See {@link panicOf}, of what is at hand. */
  panic(): string | undefined;
  readonly closed: Promise<void>;
  close(): void;
}

const tailBytes = 64 << 10;
const panicPattern = /Kernel panic - not syncing: ([^\r\n]*)[\r\n]/g;
/** It goes into the state. */
const reasonLength = 200;
/** What Linux prints when it goes down in order (kernel/reboot.c), and the first thing after its start. */
const goesOn = /reboot: (?:Restarting system|Power down|System halted)|Linux version \d/;

/**
 * Pure. Why the kernel panicked, in its own words, printable as they are, when that is the last thing that happened to it. This
 * is what a guest prints: it counts where something else shows that the system went down.
 */
export function panicOf(text: string): string | undefined {
  const last = [...text.matchAll(panicPattern)].at(-1);
  if (last === undefined || goesOn.test(text.slice(last.index + last[0].length))) return undefined;
  return plainLines(last[1] ?? '', 1)
    .join('')
    .slice(0, reasonLength);
}

/** The same, of a machine's console log, whether it runs or not. */
export const lastPanic = (logFile: string): string | undefined => panicOf(readTail(logFile).toString('utf8'));

/**
 * Connects to the console's unix socket. What an earlier agent logged since the machine's start counts as its output.
 * @throws the connect error of the socket (ENOENT, ECONNREFUSED), or the open(2) error of the log.
 */
export async function connectConsole(socketPath: string, logFile: string): Promise<Console> {
  const socket = createConnection({ path: socketPath });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', reject);
  });
  const log = openBoundedLog(logFile);
  let tail = readTail(logFile);
  const listeners = new Set<(data: Buffer) => void>();
  let firstOutput = () => {};
  const printed = new Promise<void>((resolve) => {
    firstOutput = resolve;
  });
  if (tail.length > 0) firstOutput();
  socket.on('data', (data: Buffer) => {
    log.append(data);
    tail = Buffer.concat([tail, data]).subarray(-tailBytes);
    firstOutput();
    for (const listener of listeners) listener(data);
  });
  socket.on('error', () => {}); // ECONNRESET when QEMU is killed; `close` follows
  const closed = new Promise<void>((resolve) => {
    socket.once('close', () => {
      log.close();
      resolve();
    });
  });
  return {
    lastLines: (count) => plainLines(tail.toString('utf8'), count),
    follow(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    write: (data, done) => void socket.write(data, done),
    printed,
    panic: () => panicOf(tail.toString('utf8')),
    closed,
    close: () => void socket.destroy(),
  };
}

/** The last lines of a machine's console log, whether it runs or not. Absent file: none. */
export function lastLogLines(logFile: string, count: number): string[] {
  return plainLines(readTail(logFile).toString('utf8'), count);
}

function readTail(file: string): Buffer {
  let fd: number;
  try {
    fd = openSync(file, constants.O_RDONLY | constants.O_NOFOLLOW);
  } catch {
    return Buffer.alloc(0); // nothing was printed yet
  }
  try {
    const size = fstatSync(fd).size;
    const buffer = Buffer.alloc(Math.min(size, tailBytes));
    return buffer.subarray(0, readSync(fd, buffer, 0, buffer.length, size - buffer.length));
  } finally {
    closeSync(fd);
  }
}

/** ECMA-48 sequences: CSI, OSC (to BEL or ST), and the two-character ones. */
// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this removes
const escapeSequences = /\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[PX^_][^\x1b]*\x1b\\|[ -/]*[0-~])/g;
// biome-ignore lint/suspicious/noControlCharactersInRegex: as above
const controlCharacters = /[\x00-\x08\x0b-\x1f\x7f-\x9f]/g;

/** Pure: the last `count` lines that hold more than blanks. */
export function plainLines(text: string, count: number): string[] {
  const lines = text
    .replace(escapeSequences, '')
    .split(/\r*\n/)
    .map((line) => line.replace(controlCharacters, '').trimEnd())
    .filter((line) => line !== '');
  return count <= 0 ? [] : lines.slice(-count);
}
