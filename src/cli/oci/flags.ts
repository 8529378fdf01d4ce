import { TsvError } from '../../model/errors.ts';

/*
 * Options as Go's package `flag` reads them, which runc's callers are used to: `-name` and `--name` are the same, a
 * value follows or comes after `=`, letters are not combined, `--` ends the options.
 */

export type FlagKind = 'switch' | 'text' | 'texts' | 'number' | 'numbers' | 'duration';

export interface Flag {
  readonly kind: FlagKind;
  readonly short?: string;
  readonly help: string;
}

export type Flags = Readonly<Record<string, Flag>>;

interface ValueOf {
  readonly switch: boolean;
  readonly text: string;
  readonly texts: readonly string[];
  readonly number: number;
  readonly numbers: readonly number[];
  /** Milliseconds. */
  readonly duration: number;
}

/** What was given; an option that was not is absent. Of one that was given twice, the last counts. */
export type FlagValues<F extends Flags> = { readonly [Name in keyof F]?: ValueOf[F[Name]['kind']] };

export interface ParsedFlags<F extends Flags> {
  readonly values: FlagValues<F>;
  /** All that is no option. */
  readonly rest: readonly string[];
  /** `-h` or `--help` was among them. */
  readonly help: boolean;
}

type Value = ValueOf[FlagKind];

/**
 * @param anywhere known options may come behind arguments, as in `kill ID --all`; else the first argument ends them
 * @throws TSV_USAGE in the words of Go's `flag`
 */
export function parseFlags<F extends Flags>(
  flags: F,
  args: readonly string[],
  { anywhere }: { readonly anywhere: boolean },
): ParsedFlags<F> {
  const values: Record<string, Value> = {};
  const rest: string[] = [];
  let help = false;
  let at = 0;
  while (at < args.length) {
    const arg = args[at++] ?? '';
    if (arg === '--') {
      rest.push(...args.slice(at));
      break;
    }
    const option = arg.startsWith('-') && arg !== '-' ? readOption(arg) : undefined;
    const known = option === undefined ? undefined : find(flags, option.name);
    const isHelp = option?.name === 'h' || option?.name === 'help';
    if (option === undefined || (rest.length > 0 && known === undefined && !isHelp)) {
      rest.push(arg);
      if (anywhere) continue;
      rest.push(...args.slice(at));
      break;
    }
    if (known === undefined) {
      if (!isHelp) throw usage(`flag provided but not defined: -${option.name}`);
      help = true;
      continue;
    }
    const [name, { kind }] = known;
    if (kind !== 'switch' && option.value === undefined && at === args.length)
      throw usage(`flag needs an argument: -${option.name}`);
    const text = option.value ?? (kind === 'switch' ? 'true' : (args[at++] ?? ''));
    const value = readValue(kind, option.name, text);
    const before = values[name];
    values[name] = Array.isArray(value) && Array.isArray(before) ? ([...before, ...value] as typeof value) : value;
  }
  return { values: values as FlagValues<F>, rest, help };
}

/** `--name=value` in its parts. */
function readOption(arg: string): { readonly name: string; readonly value?: string } {
  const text = arg.replace(/^--?/, '');
  if (text.startsWith('-') || text.startsWith('=')) throw usage(`bad flag syntax: ${arg}`);
  const at = text.indexOf('=');
  return at < 0 ? { name: text } : { name: text.slice(0, at), value: text.slice(at + 1) };
}

function find(flags: Flags, name: string): readonly [string, Flag] | undefined {
  return Object.entries(flags).find(([long, { short }]) => long === name || short === name);
}

function readValue(kind: FlagKind, name: string, text: string): Value {
  switch (kind) {
    case 'switch': {
      const value = switchWords.get(text);
      if (value === undefined) throw usage(`invalid boolean value ${JSON.stringify(text)} for -${name}: parse error`);
      return value;
    }
    case 'text':
      return text;
    case 'texts':
      return [text];
    case 'number':
      return number(name, text);
    case 'numbers':
      return [number(name, text)];
    case 'duration':
      return duration(text) ?? invalid(name, text);
  }
}

const switchWords: ReadonlyMap<string, boolean> = new Map([
  ...['1', 't', 'T', 'true', 'TRUE', 'True'].map((word) => [word, true] as const),
  ...['0', 'f', 'F', 'false', 'FALSE', 'False'].map((word) => [word, false] as const),
]);

function number(name: string, text: string): number {
  const digits = /^([+-]?)(\d+|0x[\da-f]+)$/i.exec(text);
  const value = digits === null ? Number.NaN : Number(digits[2]) * (digits[1] === '-' ? -1 : 1);
  return Number.isSafeInteger(value) ? value : invalid(name, text);
}

const unitMs: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** Go's durations: `5s`, `1m30s`, `500ms`, `1.5h`, `0`; in milliseconds. */
export function duration(text: string): number | undefined {
  if (text === '0') return 0;
  if (!/^[+-]?((\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h))+$/.test(text)) return undefined;
  const parts = text.matchAll(/([\d.]+)([a-zµ]+)/g);
  const sum = [...parts].reduce((total, [, count, unit = '']) => total + Number(count) * (unitMs[unit] ?? 0), 0);
  return text.startsWith('-') ? -sum : sum;
}

function invalid(name: string, text: string): never {
  throw usage(`invalid value ${JSON.stringify(text)} for flag -${name}: parse error`);
}

const usage = (message: string): TsvError => new TsvError('TSV_USAGE', message);
