import { startOfLastLines } from '../sys/last-lines.ts';
import type { RotatedLog } from '../sys/rotated-log.ts';

/** Which lines are wanted; times in nanoseconds since 1970. What has no time is older than any. */
export interface Wanted {
  readonly tail?: number;
  readonly sinceNs?: bigint;
  readonly untilNs?: bigint;
}

/** Whole lines, or a part of one, as the machine printed them. */
export interface Piece {
  readonly data: Buffer;
  /** When its lines began; undefined: not known. */
  readonly timeNs: bigint | undefined;
  /** Its first byte begins a line. */
  readonly begins: boolean;
}

const windowBytes = 256 << 10;
const newline = 10;

/** One machine's output, piece by piece. Memory is bounded: a line that is longer than a window comes in parts. */
export class LogSource {
  readonly #log: RotatedLog;
  readonly #wanted: Wanted;
  /** Lines are of no interest: whatever is there comes as it is. */
  readonly #raw: boolean;
  #position: number;
  /** What begins from here on is not wanted. */
  #limit: number;
  #window = Buffer.alloc(0);
  #windowBegin = 0;
  /** The line that is not at its end yet. */
  #open: { readonly timeNs: bigint | undefined } | undefined;
  #head: Piece | undefined;

  constructor(log: RotatedLog, wanted: Wanted, { raw }: { readonly raw: boolean }) {
    this.#log = log;
    this.#wanted = wanted;
    this.#raw = raw;
    const { tail, sinceNs, untilNs } = wanted;
    this.#limit = log.end;
    if (untilNs !== undefined) this.#limit = log.lastUntil(untilNs);
    this.#position = sinceNs === undefined ? log.begin : Math.min(log.firstSince(sinceNs), this.#limit);
    if (sinceNs !== undefined && this.#position > log.begin && this.#byteBefore(this.#position) !== newline)
      this.#open = { timeNs: sinceNs - 1n }; // it began earlier, and goes by unseen
    if (tail === undefined) return;
    const start = startOfLastLines(log, this.#position, this.#lineEnd(this.#limit), tail);
    if (start > this.#position) this.#open = undefined;
    this.#position = start;
  }

  /** Some of what is asked for has no time. */
  get lacksTimes(): boolean {
    return this.#log.lacksTimes(this.#wanted.sinceNs === undefined ? this.#position : this.#log.begin);
  }

  /** The next piece, which stays the next until it is taken. */
  peek(): Piece | undefined {
    this.#head ??= this.#find();
    return this.#head;
  }

  take(): void {
    this.#head = undefined;
    this.#log.forget(this.#position);
  }

  /** Looks for what was printed since. */
  refresh(): void {
    this.#log.refresh();
    this.#limit = this.#log.end;
  }

  close(): void {
    this.#log.close();
  }

  #find(): Piece | undefined {
    for (;;) {
      const begins = this.#open === undefined;
      if (begins && this.#position >= this.#limit) return undefined;
      const rest = this.#ahead();
      if (rest.length === 0) return undefined;
      const { length, timeNs, ends } = this.#cut(rest);
      this.#position += length;
      this.#open = ends ? undefined : { timeNs };
      if (this.#isWanted(timeNs)) return { data: rest.subarray(0, length), timeNs, begins };
    }
  }

  /** How much of what lies ahead belongs together. */
  #cut(rest: Buffer): { length: number; timeNs: bigint | undefined; ends: boolean } {
    if (this.#raw) return { length: rest.length, timeNs: undefined, ends: true };
    if (this.#open !== undefined) {
      const end = rest.indexOf(newline);
      return { length: end < 0 ? rest.length : end + 1, timeNs: this.#open.timeNs, ends: end >= 0 };
    }
    const { timeNs, end } = this.#log.chunkAt(this.#position);
    const length = Math.min(rest.length, end - this.#position);
    const lines = rest.lastIndexOf(newline, length - 1) + 1;
    return { length: lines === 0 ? length : lines, timeNs, ends: lines > 0 };
  }

  #isWanted(timeNs: bigint | undefined): boolean {
    if (this.#raw) return true;
    const { sinceNs, untilNs } = this.#wanted;
    if (timeNs === undefined) return sinceNs === undefined;
    return (sinceNs === undefined || timeNs >= sinceNs) && (untilNs === undefined || timeNs <= untilNs);
  }

  /** What is in memory from the position on, read when there is nothing. Never written to again: pieces are views of it. */
  #ahead(): Buffer {
    if (this.#position >= this.#windowBegin + this.#window.length) {
      const window = Buffer.allocUnsafeSlow(Math.min(windowBytes, Math.max(0, this.#log.end - this.#position)));
      this.#windowBegin = this.#position;
      this.#window = window.subarray(0, this.#log.read(window, this.#position));
    }
    return this.#window.subarray(this.#position - this.#windowBegin);
  }

  #byteBefore(offset: number): number | undefined {
    const byte = Buffer.alloc(1);
    return this.#log.read(byte, offset - 1) === 1 ? byte[0] : undefined;
  }

  /** Behind the end of the line that the byte before `offset` belongs to. */
  #lineEnd(offset: number): number {
    if (offset === this.#log.end || offset === this.#log.begin || this.#byteBefore(offset) === newline) return offset;
    const block = Buffer.alloc(windowBytes);
    for (let at = offset; ; ) {
      const count = this.#log.read(block, at);
      if (count === 0) return at;
      const end = block.subarray(0, count).indexOf(newline);
      if (end >= 0) return at + end + 1;
      at += count;
    }
  }
}

/**
 * Merges by time: what is oldest comes first, and of equals the first source's. A line is not interrupted as long as more
 * of it is there.
 */
export class MergedLogs {
  readonly #sources: readonly LogSource[];
  #last: LogSource | undefined;

  constructor(sources: readonly LogSource[]) {
    this.#sources = sources;
  }

  /** The next piece, and which source it is of; undefined: that is all there is by now. */
  next(): (Piece & { readonly source: number }) | undefined {
    const source = this.#choose();
    const piece = source?.peek();
    if (source === undefined || piece === undefined) return undefined;
    source.take();
    this.#last = source;
    return { ...piece, source: this.#sources.indexOf(source) };
  }

  #choose(): LogSource | undefined {
    const [only, ...others] = this.#sources;
    if (others.length === 0) return only;
    if (this.#last?.peek()?.begins === false) return this.#last;
    let oldest: LogSource | undefined;
    let oldestNs = 0n;
    for (const source of this.#sources) {
      const piece = source.peek();
      if (piece === undefined) continue;
      const timeNs = piece.timeNs ?? -1n;
      if (oldest !== undefined && timeNs >= oldestNs) continue;
      oldest = source;
      oldestNs = timeNs;
    }
    return oldest;
  }
}
