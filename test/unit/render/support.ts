import { Writable } from 'node:stream';
import type { Terminal } from '../../../src/cli/render/terminal.ts';
import type { TsvEvent } from '../../../src/model/events.ts';
import type { Action, Plan, StepOutcome } from '../../../src/model/plan.ts';

export const pipe: Terminal = { isTTY: false, columns: 80, rows: 24, colour: false, unicode: true, cursor: false };
export const ascii: Terminal = { ...pipe, unicode: false };
export const coloured: Terminal = { ...pipe, colour: true };
export const screenOf = (columns: number, rows: number): Terminal => ({
  ...pipe,
  isTTY: true,
  cursor: true,
  columns,
  rows,
});

/** SGR codes made readable: `<31>`. */
export const visible = (text: string): string => text.replaceAll('\x1b[', '<').replaceAll(/<([\d;]*)m/g, '<$1>');

type Wanted = Action | readonly [action: Action, cause: string, ...after: number[]];

/** Nodes numbered from 1 on. */
export function planOf(...wanted: readonly Wanted[]): Plan {
  return {
    nodes: wanted.map((item, index) => {
      if ('do' in item) return { id: index + 1, action: item, cause: 'new', after: [] };
      const [action, cause, ...after] = item;
      return { id: index + 1, action, cause, after };
    }),
  };
}

export const plan = (value: Plan): TsvEvent => ({ type: 'plan', plan: value });
export const start = (id: number): TsvEvent => ({ type: 'step.start', id });
export const progress = (id: number, text: string): TsvEvent => ({ type: 'step.progress', id, text });
export const end = (id: number, ms = 400, outcome: StepOutcome = 'done'): TsvEvent => ({
  type: 'step.end',
  id,
  outcome,
  ms,
});
export const fail = (id: number, message: string): TsvEvent => ({
  type: 'step.end',
  id,
  outcome: 'failed',
  ms: 2000,
  error: { code: 'TSV_PROVISION', message },
});
export const output = (machine: string, text: string): TsvEvent => ({
  type: 'output',
  machine,
  step: 'x',
  stream: 'stdout',
  text,
});

/** A plan of three: network and box, a web container that is provisioned, a load balancer behind it. */
export const small = planOf(
  [{ do: 'sandbox.ensure' }, 'new'],
  [{ do: 'network.ensure', network: 'default' }, 'new', 1],
  [{ do: 'box.ensure', box: 'debian-12', kind: 'container' }, 'needed by web and 1 more'],
  [{ do: 'machine.create', machine: 'web' }, 'new', 2, 3],
  [{ do: 'machine.start', machine: 'web' }, 'new', 4],
  [{ do: 'machine.wait', machine: 'web' }, 'started', 5],
  [{ do: 'machine.provision', machine: 'web', step: 'nginx' }, 'not done', 6],
  [{ do: 'machine.create', machine: 'lb' }, 'new', 2, 3],
  [{ do: 'machine.start', machine: 'lb' }, 'new', 7, 8],
  [{ do: 'machine.wait', machine: 'lb' }, 'started', 9],
);

/** Keeps what is written; while `slow`, it takes what comes and says that it is too much. */
export class Sink extends Writable {
  isTTY?: boolean;
  columns?: number;
  rows?: number;
  text = '';
  /** What has been written and not been taken by the reader yet. */
  held = 0;
  #release: (() => void) | undefined;
  #slow = false;

  constructor(size: { columns?: number; rows?: number } = {}) {
    super({ decodeStrings: false, highWaterMark: 1024 });
    if (size.columns !== undefined) Object.assign(this, size, { isTTY: true });
  }

  override _write(chunk: string, _: string, done: (error?: Error | null) => void): void {
    this.text += chunk;
    this.received(chunk);
    if (this.#slow) this.#release = done;
    else done();
  }

  received(_chunk: string): void {}

  stall(): void {
    this.#slow = true;
  }

  resume(): void {
    this.#slow = false;
    const release = this.#release;
    this.#release = undefined;
    release?.();
  }

  lines(): string[] {
    return this.text.split('\n').slice(0, -1);
  }
}

interface Row {
  text: string[];
  /** The line goes on in the next row. */
  wraps: boolean;
}

/** A terminal: interprets what is written, keeps what scrolled away, and breaks lines anew when its width changes. */
export class Emulator extends Sink {
  declare columns: number;
  declare rows: number;
  cursorShown = true;
  /** Everything that is not understood: must stay empty. */
  unknown: string[] = [];
  #lines: Row[] = [{ text: [], wraps: false }];
  #x = 0;
  #y = 0;

  constructor(columns: number, rows: number) {
    super({ columns, rows });
  }

  override received(chunk: string): void {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: a terminal reads them
    for (const [token, parameters, final] of chunk.matchAll(/\x1b\[([?\d;]*)([A-Za-z])|\x1b.|./gsu)) {
      if (final !== undefined) this.#sequence(parameters ?? '', final);
      else if (token === '\n') this.#newline(false);
      else if (token === '\r') this.#x = 0;
      else if (token < ' ' || token.startsWith('\x1b')) this.unknown.push(token);
      else this.#put(token);
    }
  }

  /** All rows from the first one on, scrolled away or not, without empty ones at the end. */
  get everything(): string[] {
    const rows = this.#lines.map(({ text }) => text.join('').trimEnd());
    while (rows.at(-1) === '') rows.pop();
    return rows;
  }

  /** Only what can be seen. */
  get visible(): string[] {
    return this.everything.slice(this.#top);
  }

  resizeTo(columns: number, rows: number): void {
    const logical: string[][] = [];
    let cursorLine = 0;
    let joined = false;
    this.#lines.forEach(({ text, wraps }, y) => {
      if (joined) logical.at(-1)?.push(...text);
      else logical.push([...text]);
      if (y === this.#y) cursorLine = logical.length - 1;
      joined = wraps;
    });
    this.#lines = [];
    logical.forEach((text, line) => {
      if (line === cursorLine) this.#y = this.#lines.length;
      for (let at = 0; at === 0 || at < text.length; at += columns) {
        this.#lines.push({ text: text.slice(at, at + columns), wraps: at + columns < text.length });
      }
    });
    this.columns = columns;
    this.rows = rows;
    this.emit('resize');
  }

  get #top(): number {
    return Math.max(0, this.#lines.length - this.rows);
  }

  #put(character: string): void {
    if (this.#x === this.columns) this.#newline(true);
    const row = this.#lines[this.#y];
    if (row === undefined) throw new Error('the cursor is nowhere');
    while (row.text.length < this.#x) row.text.push(' ');
    row.text[this.#x] = character;
    this.#x += 1;
  }

  #newline(wraps: boolean): void {
    const row = this.#lines[this.#y];
    if (row !== undefined) row.wraps = wraps;
    this.#x = 0;
    this.#y += 1;
    if (this.#y === this.#lines.length) this.#lines.push({ text: [], wraps: false });
  }

  #sequence(parameters: string, final: string): void {
    if (final === 'm') return;
    if (final === 'A') this.#y = Math.max(this.#top, this.#y - Number(parameters || 1));
    else if (final === 'K') this.#lines[this.#y]?.text.splice(this.#x);
    else if (final === 'J') {
      this.#lines[this.#y]?.text.splice(this.#x);
      this.#lines.splice(this.#y + 1);
    } else if (parameters === '?25') this.cursorShown = final === 'h';
    else if (parameters !== '?2026') this.unknown.push(parameters + final);
  }
}
