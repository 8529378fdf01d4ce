import { createHash } from 'node:crypto';

/** Where variables come from: the environment first, then `.env`. Notes which were asked for. */
export class Variables {
  readonly #sources: readonly Readonly<Record<string, string | undefined>>[];
  readonly #used = new Map<string, string | undefined>();

  constructor(...sources: readonly Readonly<Record<string, string | undefined>>[]) {
    this.#sources = sources;
  }

  get(name: string): string | undefined {
    const value = this.#sources.find((source) => Object.hasOwn(source, name) && source[name] !== undefined)?.[name];
    this.#used.set(name, value);
    return value;
  }

  names(): string[] {
    return [...new Set(this.#sources.flatMap((source) => Object.keys(source)))];
  }

  /** All that was asked for, sorted by name. */
  used(): [name: string, value: string | undefined][] {
    return [...this.#used].sort(([a], [b]) => (a < b ? -1 : 1));
  }
}

/** `Project.digest`: sha256 over the Tsfile's text and the variables it used. A text without `${` uses none. */
export function projectDigest(text: string, used: readonly (readonly [string, string | undefined])[] = []): string {
  return createHash('sha256')
    .update(JSON.stringify([text, used.map(([name, value]) => [name, value ?? null])]))
    .digest('hex');
}

/** A mistake inside a text: offset and length in it. */
export interface TextMistake {
  readonly offset: number;
  readonly length: number;
  readonly message: string;
  readonly hint?: string;
}

const reference = /\$(?:\$|\{([^}]*)(\}?))/g;

/**
 * Replaces `${VAR}`, `${VAR:-default}`, `${VAR:?message}` and `$$`; any other `$` stays as it is.
 * The replacement is data: nothing in it is looked at again. `:-` and `:?` count an empty variable as missing.
 * `used`: the value of a variable is in it.
 */
export function interpolate(
  text: string,
  variables: Variables,
): { text: string; mistakes: readonly TextMistake[]; used: boolean } {
  const mistakes: TextMistake[] = [];
  let used = false;
  const result = text.replace(reference, (whole: string, body: string | undefined, close: string, offset: number) => {
    if (body === undefined) return '$';
    const wrong = (message: string, hint?: string): string => {
      mistakes.push({ offset, length: whole.length, message, ...(hint === undefined ? {} : { hint }) });
      return whole;
    };
    if (close === '') return wrong('this `${` is never closed', 'write $${ where ${ is meant as text');
    const match = /^([A-Za-z_][A-Za-z0-9_]*)(?:(:[-?])(.*))?$/s.exec(body);
    const [, name, operator, word = ''] = match ?? [];
    if (name === undefined || word.includes('${')) {
      return wrong(
        `\`${whole}\` is not understood`,
        // biome-ignore lint/suspicious/noTemplateCurlyInString: this is what the user is to write
        'write ${VAR}, ${VAR:-default} or ${VAR:?message}, and $$ for a $ that is meant as text',
      );
    }
    const value = variables.get(name);
    if (operator === undefined) {
      if (value !== undefined) {
        used ||= value !== '';
        return value;
      }
      return wrong(
        `the variable \`${name}\` is not set`,
        `set it in the environment or in .env, or write \${${name}:-default}`,
      );
    }
    if (value !== undefined && value !== '') {
      used = true;
      return value;
    }
    if (operator === ':-') return word;
    return wrong(
      word === '' ? `the variable \`${name}\` is not set` : `\`${name}\`: ${word}`,
      'set it in the environment or in .env',
    );
  });
  return { text: result, mistakes, used };
}

/**
 * The variables of a `.env` file: `NAME=value` per line, `export` before it allowed, `#` starts a comment.
 * 'single quotes' keep everything, "double quotes" know \n \t \r \" \\ \$; a plain value ends before ` #`.
 * Nothing is replaced inside. A later line wins.
 */
export function parseDotEnv(text: string): {
  values: Readonly<Record<string, string>>;
  mistakes: readonly TextMistake[];
} {
  const values: [string, string][] = [];
  const mistakes: TextMistake[] = [];
  let offset = 0;
  for (const raw of text.split('\n')) {
    const line = raw.replace(/\r$/, '');
    const parsed = /^\s*(?:#.*)?$/.test(line) ? undefined : dotEnvLine(line);
    if (parsed !== undefined) {
      if (typeof parsed === 'string') mistakes.push({ offset, length: Math.max(1, line.length), message: parsed });
      else values.push(parsed);
    }
    offset += raw.length + 1;
  }
  return { values: Object.fromEntries(values), mistakes };
}

/** Name and value of one line, or what is wrong with it. */
function dotEnvLine(line: string): [string, string] | string {
  if (line.includes('\0')) return 'a NUL character cannot be in a variable';
  const match = /^\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_]*)\s*=\s*(.*)$/.exec(line);
  const [, name, rest = ''] = match ?? [];
  if (name === undefined) return 'this line is not understood (write NAME=value)';
  const quote = rest[0];
  if (quote !== '"' && quote !== "'") {
    const comment = rest.startsWith('#') ? 0 : rest.search(/\s#/);
    return [name, (comment === -1 ? rest : rest.slice(0, comment)).trimEnd()];
  }
  const quoted = quote === '"' ? /^"((?:[^"\\]|\\.)*)"\s*(?:#.*)?$/.exec(rest) : /^'([^']*)'\s*(?:#.*)?$/.exec(rest);
  if (quoted?.[1] === undefined) return `the ${quote} is never closed, or something stands behind its end`;
  const escapes: Record<string, string> = { n: '\n', t: '\t', r: '\r' };
  return [name, quote === "'" ? quoted[1] : quoted[1].replace(/\\(.)/g, (_, c: string) => escapes[c] ?? c)];
}
