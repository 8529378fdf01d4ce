/** What an output can do, as plain data, so that everything that renders is a function. */
export interface Terminal {
  readonly isTTY: boolean;
  /** Characters per line; of no meaning without a TTY. */
  readonly columns: number;
  readonly rows: number;
  readonly colour: boolean;
  readonly unicode: boolean;
  /** The cursor can be moved: a TTY that is not `dumb`. */
  readonly cursor: boolean;
}

/** The part of `tty.WriteStream` that is asked; a pipe or file has none of it. */
export interface OutputSize {
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
}

type Environment = Readonly<Record<string, string | undefined>>;

/** Asks a stream and the environment (NO_COLOR, FORCE_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM, LC_ALL, LC_CTYPE, LANG). */
export function readTerminal(stream: OutputSize, env: Environment): Terminal {
  const isTTY = stream.isTTY === true;
  return {
    isTTY,
    // A terminal that does not know its size (a serial line) says 0.
    columns: stream.columns || 80,
    rows: stream.rows || 24,
    colour: wantsColour(isTTY, env),
    unicode: hasUnicode(env),
    cursor: isTTY && env.TERM !== 'dumb',
  };
}

/** https://no-color.org, https://force-color.org, https://bixense.com/clicolors; a forced yes wins, as in Node. */
function wantsColour(isTTY: boolean, env: Environment): boolean {
  const forced = env.FORCE_COLOR;
  if (forced !== undefined) return forced !== '0' && forced !== 'false';
  if (env.NO_COLOR) return false;
  if (env.CLICOLOR_FORCE && env.CLICOLOR_FORCE !== '0') return true;
  return isTTY && env.TERM !== 'dumb' && env.CLICOLOR !== '0';
}

/** The locale's character set (locale(7): the first of the three that is set counts); the Linux console has no ticks. */
function hasUnicode(env: Environment): boolean {
  const locale = env.LC_ALL || env.LC_CTYPE || env.LANG || '';
  return /utf-?8/i.test(locale) && env.TERM !== 'linux';
}

/** SGR codes (ECMA-48, 8.3.117): on, and the off that leaves the others alone. */
const codes = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  blue: [34, 39],
  magenta: [35, 39],
  cyan: [36, 39],
} as const;

export type Style = keyof typeof codes;

/** `text` in these styles, or as it is when the output has no colour. The text must hold no line breaks. */
export function style(terminal: Pick<Terminal, 'colour'>, text: string, ...styles: readonly Style[]): string {
  if (!terminal.colour || text === '') return text;
  return styles.reduceRight((inner, name) => `\x1b[${codes[name][0]}m${inner}\x1b[${codes[name][1]}m`, text);
}

export interface Symbols {
  readonly done: string;
  readonly failed: string;
  readonly skipped: string;
  readonly waiting: string;
  readonly hint: string;
  readonly ellipsis: string;
  readonly spinner: readonly string[];
}

const unicodeSymbols: Symbols = {
  done: '✔',
  failed: '✘',
  skipped: '–',
  waiting: '·',
  hint: '→',
  ellipsis: '…',
  spinner: ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'],
};

const asciiSymbols: Symbols = {
  done: '+',
  failed: 'x',
  skipped: '-',
  waiting: '.',
  hint: '->',
  ellipsis: '...',
  spinner: ['|', '/', '-', '\\'],
};

export const symbolsOf = (terminal: Pick<Terminal, 'unicode'>): Symbols =>
  terminal.unicode ? unicodeSymbols : asciiSymbols;
