import type { Writable } from 'node:stream';
import { count } from './text.ts';

/** Lines that wait for a slow reader; more output than this is dropped. */
const mostWaitingLines = 1000;
const mostWaitingBytes = 1024 * 1024;

type Waiting = { readonly line: string } | { readonly machine: string; dropped: number };

/**
 * Writes lines to a stream that may be slow or go away. While the reader does not keep up, a bounded number of lines
 * waits; output of machines beyond that is dropped, and a line tells how much. When the reader is gone
 * (EPIPE, as with `| head`) everything is dropped silently: the command goes on.
 */
export class Outlet {
  readonly #stream: Writable;
  readonly #dropNotice: (machine: string, text: string) => string;
  readonly #waiting: Waiting[] = [];
  readonly #dropping = new Map<string, { dropped: number }>();
  #waitingBytes = 0;
  #blocked = false;
  #gone = false;
  #whenIdle: (() => void)[] = [];

  /** `dropNotice` makes the line that stands where lines of a machine were dropped. */
  constructor(stream: Writable, dropNotice: (machine: string, text: string) => string) {
    this.#stream = stream;
    this.#dropNotice = dropNotice;
    stream.on('error', () => this.#end());
    stream.on('close', () => this.#end());
    stream.on('drain', () => this.#flush());
  }

  /** A line that is wanted in any case. */
  line(line: string): void {
    if (this.#gone) return;
    if (this.#blocked) this.#keep(line);
    else this.#write(line);
  }

  /** A line of a machine's output (or its progress), which may be dropped. */
  output(machine: string, line: string): void {
    if (this.#gone) return;
    if (!this.#blocked) {
      this.#write(line);
      return;
    }
    if (this.#waiting.length < mostWaitingLines && this.#waitingBytes + line.length <= mostWaitingBytes) {
      this.#dropping.delete(machine);
      this.#keep(line);
      return;
    }
    const open = this.#dropping.get(machine);
    if (open !== undefined) open.dropped += 1;
    else {
      const marker = { machine, dropped: 1 };
      this.#dropping.set(machine, marker);
      this.#waiting.push(marker);
    }
  }

  /** Resolves when the reader has taken everything, or is gone. */
  idle(): Promise<void> {
    if (this.#gone || !this.#blocked) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #keep(line: string): void {
    this.#waiting.push({ line });
    this.#waitingBytes += line.length;
  }

  #write(line: string): void {
    this.#blocked = !this.#stream.write(`${line}\n`);
  }

  #flush(): void {
    this.#blocked = false;
    while (!this.#blocked && !this.#gone) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      if ('line' in next) {
        this.#waitingBytes -= next.line.length;
        this.#write(next.line);
      } else {
        if (this.#dropping.get(next.machine) === next) this.#dropping.delete(next.machine);
        this.#write(this.#dropNotice(next.machine, `${count(next.dropped, 'line')} of ${next.machine} not shown`));
      }
    }
    if (!this.#blocked) this.#settle();
  }

  #end(): void {
    this.#gone = true;
    this.#waiting.length = 0;
    this.#dropping.clear();
    this.#settle();
  }

  #settle(): void {
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}
