import { closeSync, constants, fstatSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { type ReadAt, Times } from './console-times.ts';

/** Names of a file that is appended to, and of what becomes of it when it is full. */
export interface RotatedNames {
  readonly current: string;
  readonly old: string;
  /** Of the files with the times of these two, where there are any; see console-times.ts. */
  readonly times?: { readonly current: string; readonly old: string };
}

/** A machine's output. */
export const consoleNames: RotatedNames = {
  current: 'console.log',
  old: 'console.log.1',
  times: { current: 'console.times', old: 'console.times.1' },
};

/** What one name stood for: an open file, which stays what it is when it is renamed or removed. */
interface Generation {
  readonly fd: number;
  readonly inode: number;
  /** Of its first byte in the whole log. */
  base: number;
  size: number;
  times: { readonly fd: number; readonly index: Times } | undefined;
  /** Its file of times was looked for when there was something that needs one. */
  settled: boolean;
}

/** A piece of the log that was written at once. */
export interface Chunk {
  /** Nanoseconds since 1970; undefined: nobody wrote it down. */
  readonly timeNs: bigint | undefined;
  /** Of the first byte behind it, as far as is known. */
  readonly end: number;
}

/**
 * A file and the one before it, read as one: offsets count from the first byte that was there when it was opened, over all
 * files that bear the name from then on. What is there is fixed until {@link refresh}.
 */
export class RotatedLog {
  readonly #dir: string;
  readonly #names: RotatedNames;
  #generations: Generation[] = [];

  private constructor(dir: string, names: RotatedNames) {
    this.#dir = dir;
    this.#names = names;
  }

  /** Neither the files nor their folder need to be there yet. */
  static open(dir: string, names: RotatedNames): RotatedLog {
    const log = new RotatedLog(dir, names);
    log.refresh();
    return log;
  }

  /** Offset of the first byte that can be read. */
  get begin(): number {
    return this.#generations[0]?.base ?? 0;
  }

  /** Offset behind the last byte. */
  get end(): number {
    const last = this.#generations.at(-1);
    return last === undefined ? 0 : last.base + last.size;
  }

  /** Bytes from `offset` on, as many as one file has of them and `into` takes; 0 at the end. */
  read(into: Buffer, offset: number): number {
    const found = this.#generations.find(({ base, size }) => offset >= base && offset < base + size);
    if (found === undefined) return 0;
    const length = Math.min(into.length, found.base + found.size - offset);
    return readSync(found.fd, into, 0, length, offset - found.base);
  }

  chunkAt(offset: number): Chunk {
    const found = this.#generations.find(({ base, size }) => offset >= base && offset < base + size);
    if (found === undefined) return { timeNs: undefined, end: this.end };
    const end = found.base + found.size;
    const index = found.times?.index;
    if (index === undefined || index.count === 0) return { timeNs: undefined, end };
    const chunk = index.chunkOf(offset - found.base);
    const next = chunk + 1 < index.count ? found.base + index.offset(chunk + 1) : end;
    return { timeNs: chunk < 0 ? undefined : index.timeNs(chunk), end: next > offset ? Math.min(end, next) : end };
  }

  /** Offset of the first chunk that is not older than a time; the log's end when all are, or nobody knows. */
  firstSince(timeNs: bigint): number {
    for (const { base, times } of this.#generations) {
      const chunk = times?.index.firstSince(timeNs);
      if (chunk !== undefined) return base + (times?.index.offset(chunk) ?? 0);
    }
    return this.end;
  }

  /** Offset behind the last chunk that is not younger than a time; what has no time is old. */
  lastUntil(timeNs: bigint): number {
    for (const { base, size, times } of this.#generations.toReversed()) {
      const index = times?.index;
      if (index === undefined || index.count === 0) {
        if (size > 0) return base + size;
        continue;
      }
      const chunk = index.lastUntil(timeNs) ?? -1;
      const end = chunk + 1 < index.count ? Math.min(size, index.offset(chunk + 1)) : size;
      if (end > 0) return base + end;
    }
    return this.begin;
  }

  /** Some of the bytes from `offset` on have no time. */
  lacksTimes(offset: number): boolean {
    return this.#generations.some(({ base, size, times }) => {
      const timed = times === undefined || times.index.count === 0 ? size : times.index.offset(0);
      return timed > 0 && offset < base + timed;
    });
  }

  /** Looks again: what was written since, and which files bear the names now. */
  refresh(): void {
    const last = this.#generations.at(-1);
    if (last !== undefined) grow(last);
    const current = statSync(join(this.#dir, this.#names.current), { throwIfNoEntry: false });
    if (last !== undefined) {
      if (current === undefined) return; // it is being renamed at this moment, or its machine is gone
      if (current.ino === last.inode && (last.settled || last.size === 0)) return;
    }
    const opened = this.#openBoth();
    const newest = opened.at(-1)?.inode;
    for (const fresh of opened) {
      const known = this.#generations.find(({ inode }) => inode === fresh.inode);
      if (known !== undefined) adoptTimes(known, fresh);
      // Before one that is known there is only what is forgotten.
      else if (this.#generations.some(({ inode }) => inode === newest)) close(fresh);
      else this.#append(fresh);
    }
  }

  /** What lies before `offset` is not needed any more. The newest file stays open: by that it is known. */
  forget(offset: number): void {
    while (this.#generations.length > 1) {
      const [first] = this.#generations;
      if (first === undefined || first.base + first.size > offset) return;
      close(first);
      this.#generations.shift();
    }
  }

  close(): void {
    for (const generation of this.#generations.splice(0)) close(generation);
  }

  #append(fresh: Generation): void {
    const last = this.#generations.at(-1);
    if (last !== undefined) grow(last); // whoever wrote to it has gone on to the next
    fresh.base = this.end;
    this.#generations.push(fresh);
  }

  /** The files that bear the names now, each with its own times, although they are renamed one after the other. */
  #openBoth(): Generation[] {
    for (let tries = 0; ; tries++) {
      const before = this.#look();
      const opened = this.#openOnce();
      if (tries === 100 || before === this.#look()) return opened;
      for (const generation of opened) close(generation);
    }
  }

  #look(): string {
    const { current, old, times } = this.#names;
    return [current, old, times?.current, times?.old]
      .map((name) => (name === undefined ? undefined : statSync(join(this.#dir, name), { throwIfNoEntry: false })))
      .map((stat) => `${stat?.ino} ${(stat?.size ?? 0) > 0}`)
      .join();
  }

  #openOnce(): Generation[] {
    const { current, old, times } = this.#names;
    const generations: Generation[] = [];
    const open = (name: string) => openFile(join(this.#dir, name));
    const add = (name: string): Generation | undefined => {
      const fd = open(name);
      if (fd === undefined) return undefined;
      const { ino: inode, size } = fstatSync(fd);
      const added: Generation = { fd, inode, base: 0, size, times: undefined, settled: times === undefined };
      generations.push(added);
      return added;
    };
    const before = add(old);
    const now = add(current);
    if (times === undefined) return generations;
    const [timesBefore, timesNow] = [readTimes(open(times.old)), readTimes(open(times.current))];
    // The log is renamed first: while there is none, or an empty one, times of more than its beginning are those of the old.
    const last = lastOffset(timesNow);
    const halfway = last !== undefined && (now === undefined || (now.size === 0 && last > 0));
    give(before, halfway ? timesNow : timesBefore);
    if (halfway) drop(timesBefore);
    else if (now !== undefined && now.size > 0) give(now, timesNow);
    else drop(timesNow);
    return generations;
  }
}

/** Where the last chunk begins that has a time. */
function lastOffset(times: Generation['times']): number | undefined {
  const count = times?.index.count ?? 0;
  return count === 0 ? undefined : times?.index.offset(count - 1);
}

/** Sizes: of the log first, so that all of its bytes have their times in what is read afterwards. */
function grow(generation: Generation): void {
  generation.size = fstatSync(generation.fd).size;
  const { times } = generation;
  times?.index.resize(fstatSync(times.fd).size);
}

function give(generation: Generation | undefined, times: Generation['times']): void {
  if (generation === undefined) drop(times);
  else Object.assign(generation, { times, settled: true });
}

function adoptTimes(known: Generation, fresh: Generation): void {
  if (!known.settled && fresh.settled) {
    give(known, fresh.times);
    fresh.times = undefined;
    grow(known);
  }
  close(fresh);
}

function close({ fd, times }: Generation): void {
  closeSync(fd);
  drop(times);
}

function drop(times: Generation['times']): void {
  if (times !== undefined) closeSync(times.fd);
}

function readTimes(fd: number | undefined): Generation['times'] {
  if (fd === undefined) return undefined;
  const read: ReadAt = (into, offset) => readSync(fd, into, 0, into.length, offset);
  const index = new Times(read);
  index.resize(fstatSync(fd).size);
  return { fd, index };
}

/** Undefined when it is not there. */
function openFile(path: string): number | undefined {
  try {
    return openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
