import { type Style, style, type Terminal } from './terminal.ts';

/** A part of a machine's output; see LogSource. */
export interface LogPiece {
  readonly data: Buffer;
  readonly timeNs: bigint | undefined;
  readonly begins: boolean;
  /** Which of the machines printed it. */
  readonly source: number;
}

const blockBytes = 64 << 10;
const newline = 10;
const colours: readonly Style[] = ['cyan', 'yellow', 'green', 'magenta', 'blue'];
const nothing = Buffer.alloc(0);

/** `web-1 | `, each machine in a colour of its own as long as there are enough; as wide as the longest name. */
export function logPrefixes(machines: readonly string[], terminal: Pick<Terminal, 'colour'>): string[] {
  const width = Math.max(0, ...machines.map((name) => name.length));
  return machines.map((name, index) =>
    style(terminal, `${name.padEnd(width)} | `, colours[index % colours.length] ?? 'cyan'),
  );
}

/** `2026-01-01T12:01:05.123456789Z `, as docker prints it; `- ` for what has no time. */
export function logTime(timeNs: bigint | undefined): string {
  if (timeNs === undefined) return '- ';
  const seconds = new Date(Number(timeNs / 1_000_000n)).toISOString().slice(0, 20);
  return `${seconds}${String(timeNs % 1_000_000_000n).padStart(9, '0')}Z `;
}

/** For the standard error output, with a line break at the end. */
export const untimedNotice = (machines: readonly string[]): string =>
  `tsv: some of what ${machines.join(', ')} printed has no times: it comes first, and counts as older than any\n`;

/** Lines of several machines as bytes for one output. Nothing is decoded: what was printed comes out as it was. */
export class LogPrinter {
  readonly #prefixes: readonly Buffer[] | undefined;
  readonly #timestamps: boolean;
  readonly #several: boolean;
  #done: Buffer[] = [];
  #doneBytes = 0;
  #block = nothing;
  #used = 0;
  /** Whose line is not at its end yet. */
  #open: number | undefined;
  #headOf: { readonly source: number; readonly timeNs: bigint | undefined; readonly head: Buffer } | undefined;

  /** @param prefixes by machine; absent: none */
  constructor(options: {
    readonly prefixes?: readonly string[];
    readonly timestamps: boolean;
    readonly several: boolean;
  }) {
    this.#prefixes = options.prefixes?.map((prefix) => Buffer.from(prefix));
    this.#timestamps = options.timestamps;
    this.#several = options.several;
  }

  /** How much waits to be written. */
  get bytes(): number {
    return this.#doneBytes + this.#used;
  }

  print(piece: LogPiece): void {
    const { data, source } = piece;
    const head = this.#head(piece);
    const goesOn = this.#open === source;
    if (this.#open !== undefined && !goesOn) this.#put(newlineBytes);
    // Its line was ended for another machine's sake.
    if (!piece.begins && !goesOn && data.length === 1 && data[0] === newline) {
      this.#open = undefined;
      return;
    }
    this.#open = data[data.length - 1] === newline ? undefined : source;
    for (let at = 0; at < data.length; ) {
      const end = head.length === 0 ? data.length : data.indexOf(newline, at) + 1 || data.length;
      if (at > 0 || !goesOn) this.#put(head);
      this.#put(data.subarray(at, end));
      at = end;
    }
  }

  /** Nothing more comes. Of several machines, each line ends; what one printed stays as it is. */
  end(): void {
    if (this.#open !== undefined && this.#several) this.#put(newlineBytes);
    this.#open = undefined;
  }

  /** What is to be written, in order. */
  take(): Buffer[] {
    this.#close();
    const taken = this.#done;
    this.#done = [];
    this.#doneBytes = 0;
    return taken;
  }

  #head({ source, timeNs }: LogPiece): Buffer {
    const prefix = this.#prefixes?.[source] ?? nothing;
    if (!this.#timestamps) return prefix;
    if (this.#headOf?.source !== source || this.#headOf.timeNs !== timeNs)
      this.#headOf = { source, timeNs, head: Buffer.concat([prefix, Buffer.from(logTime(timeNs))]) };
    return this.#headOf.head;
  }

  /** Small pieces are put together, large ones are not copied. */
  #put(data: Buffer): void {
    if (data.length > blockBytes) {
      this.#close();
      this.#done.push(data);
      this.#doneBytes += data.length;
      return;
    }
    if (this.#used + data.length > this.#block.length) {
      this.#close();
      this.#block = Buffer.allocUnsafeSlow(blockBytes);
    }
    data.copy(this.#block, this.#used);
    this.#used += data.length;
  }

  #close(): void {
    if (this.#used > 0) {
      this.#done.push(this.#block.subarray(0, this.#used));
      this.#doneBytes += this.#used;
    }
    this.#block = nothing;
    this.#used = 0;
  }
}

const newlineBytes = Buffer.from('\n');
