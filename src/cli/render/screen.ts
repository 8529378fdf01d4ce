import type { Writable } from 'node:stream';
import type { OutputSize } from './terminal.ts';
import { count, displayWidth } from './text.ts';

/** Lines above the picture that wait for a slow terminal. */
const mostWaiting = 500;

// ECMA-48 and the DEC private modes 25 (cursor) and 2026 (synchronised output; unknown to a terminal: ignored).
const begin = '\x1b[?2026h\x1b[?25l';
const end = '\x1b[?25h\x1b[?2026l';
const eraseToLineEnd = '\x1b[K';
const eraseBelow = '\x1b[J';
const up = (lines: number): string => (lines === 0 ? '\r' : `\r\x1b[${lines}A`);

/**
 * Draws a picture of some lines again and again at the same place, and prints lasting lines above it. Each picture is
 * one write that hides the cursor and shows it again: however the process ends, the terminal is as it was.
 */
export class Screen {
  readonly #stream: Writable & OutputSize;
  readonly #ellipsis: string;
  /** The picture that is on the screen. */
  #picture: readonly string[] = [];
  #columns = 0;
  #above: string[] = [];
  #dropped = 0;
  #blocked = false;
  #gone = false;
  #whenIdle: (() => void)[] = [];

  constructor(stream: Writable & OutputSize, ellipsis: string) {
    this.#stream = stream;
    this.#ellipsis = ellipsis;
    const finish = (): void => {
      this.#gone = true;
      this.#settle();
    };
    stream.on('error', finish);
    stream.on('close', finish);
    stream.on('drain', () => {
      this.#blocked = false;
      // Lines that came after the last picture have nothing else to bring them out.
      if (this.#picture.length === 0) this.#flush();
      if (!this.#blocked) this.#settle();
    });
  }

  /** A lasting line: at once when there is no picture, else above the next one. */
  print(line: string): void {
    if (this.#above.length >= mostWaiting) this.#dropped += 1;
    else this.#above.push(line);
    if (this.#picture.length === 0) this.#flush();
  }

  /** Replaces the picture. A terminal that has not taken the last one yet keeps it. */
  draw(picture: readonly string[]): void {
    if (this.#blocked) return;
    const columns = this.#stream.columns || 80;
    if (this.#above.length === 0 && columns === this.#columns && sameLines(picture, this.#picture)) return;
    this.#write(begin + this.#replace(picture, columns) + end);
    this.#picture = picture;
    this.#columns = columns;
  }

  /** The last picture, which stays; the next one comes below it. */
  finish(picture: readonly string[]): void {
    this.#write(begin + this.#replace(picture, this.#stream.columns || 80) + end);
    this.#picture = [];
  }

  /** Resolves when the terminal has taken everything, or is gone. */
  idle(): Promise<void> {
    if (this.#gone || !this.#blocked) return Promise.resolve();
    return new Promise((resolve) => this.#whenIdle.push(resolve));
  }

  #replace(picture: readonly string[], columns: number): string {
    const lines = [...this.#takeAbove(), ...picture];
    const body = lines.map((line) => `${line}${eraseToLineEnd}\n`).join('');
    return `${up(this.#height(columns))}${body}${eraseBelow}`;
  }

  /** Rows that the picture takes now: a terminal that became narrower has broken its long lines. */
  #height(columns: number): number {
    return this.#picture.reduce((rows, line) => rows + Math.max(1, Math.ceil(displayWidth(line) / columns)), 0);
  }

  #flush(): void {
    if (this.#blocked || (this.#above.length === 0 && this.#dropped === 0)) return;
    this.#write(`${this.#takeAbove().join('\n')}\n`);
  }

  #takeAbove(): string[] {
    const lines = this.#above;
    if (this.#dropped > 0) lines.push(`${this.#ellipsis} ${count(this.#dropped, 'line')} not shown`);
    this.#above = [];
    this.#dropped = 0;
    return lines;
  }

  #write(text: string): void {
    if (!this.#gone) this.#blocked = !this.#stream.write(text);
  }

  #settle(): void {
    for (const resolve of this.#whenIdle.splice(0)) resolve();
  }
}

const sameLines = (a: readonly string[], b: readonly string[]): boolean =>
  a.length === b.length && a.every((line, index) => line === b[index]);
