import { TsvError } from '../model/errors.ts';
import { type Digest, isDigest } from '../model/image.ts';

/** What one box or image was when it was resolved. */
export interface LockEntry {
  /** Of an image: the manifest of this platform. Of a box: its recipe. */
  readonly digest: Digest;
  /** RFC 3339, UTC: when it was resolved. */
  readonly date: string;
  /** `docker.io`, `store` (it was in the store already), `recipe`. */
  readonly source: string;
  /** What the image says of itself: org.opencontainers.image.version. */
  readonly version?: string;
  /** Of an image: bytes of its layers on the way. */
  readonly size?: number;
}

/** `Tsfile.lock`: which boxes and images the machines of a Tsfile are made from. */
export interface LockFile {
  /** By name. */
  readonly boxes: Readonly<Record<string, LockEntry>>;
  /** By reference in full. */
  readonly images: Readonly<Record<string, LockEntry>>;
}

export const emptyLock: LockFile = { boxes: {}, images: {} };
export const lockFileName = 'Tsfile.lock';

const version = 1;
const head = `# Which boxes and images the Tsfile's machines are made from. Written by tsv; it belongs into git.
# \`tsv update\` takes newer ones, \`tsv up --locked\` fails where this file would have to change.
version: ${version}
`;
const sections = ['boxes', 'images'] as const;
const facts = ['date', 'digest', 'size', 'source', 'version'] as const;

/** YAML in a stable order, one fact in a line, so that git merges it line by line. */
export function formatLock(lock: LockFile): string {
  const parts = sections.flatMap((section) => {
    const entries = Object.entries(lock[section]).sort(([a], [b]) => (a < b ? -1 : 1));
    return entries.length === 0 ? [] : [`${section}:\n${entries.map(formatEntry).join('')}`];
  });
  return head + parts.join('');
}

function formatEntry([name, entry]: [string, LockEntry]): string {
  const lines = facts.flatMap((fact) =>
    entry[fact] === undefined ? [] : [`    ${fact}: ${JSON.stringify(entry[fact])}\n`],
  );
  return `  ${JSON.stringify(name)}:\n${lines.join('')}`;
}

/**
 * Reads what {@link formatLock} writes, and no more of YAML than that: a file that git has merged badly is told from a good
 * one by its lines.
 * @throws TSV_LOCK_FILE with the line that is wrong
 */
export function parseLock(text: string, file: string): LockFile {
  const lines = text.split('\n').map((line) => line.replace(/\r$/, ''));
  const found = { boxes: new Map<string, Map<string, unknown>>(), images: new Map<string, Map<string, unknown>>() };
  const places = new Map<Map<string, unknown>, number>();
  let section: (typeof sections)[number] | undefined;
  let entry: Map<string, unknown> | undefined;
  let versioned = false;
  for (const [index, line] of lines.entries()) {
    const wrong = (why: string) => wrongLine(file, index + 1, line, why);
    if (/^\s*(?:#.*)?$/.test(line)) continue;
    if (/^(?:<{7}|={7}|>{7}|\|{7})(?: |$)/.test(line))
      throw wrong('two versions of it were merged, and git left both here');
    const [, indent = '', key = '', value = ''] = /^( *)("(?:[^"\\]|\\.)*"|[a-z]+):(?: +(.*))?$/.exec(line) ?? [];
    if (key === '') throw wrong('it is no line of a lock file');
    if (indent === '' && key === 'version') {
      if (value !== String(version)) throw wrong(`this tsv knows version ${version} of the file`);
      versioned = true;
    } else if (indent === '') {
      section = sections.find((name) => name === key);
      entry = undefined;
      if (section === undefined || value !== '') throw wrong('it is neither `boxes` nor `images`');
    } else if (indent === '  ' && section !== undefined) {
      const name = textOf(key);
      if (name === undefined || value !== '') throw wrong('a name in quotes and a colon are expected');
      if (found[section].has(name)) throw wrong('this name is there twice');
      entry = new Map();
      places.set(entry, index);
      found[section].set(name, entry);
    } else if (indent === '    ' && entry !== undefined) {
      if (!facts.some((fact) => fact === key)) throw wrong(`nothing is known of \`${key}\``);
      const read = key === 'size' ? (/^[0-9]{1,15}$/.test(value) ? Number(value) : undefined) : textOf(value);
      if (read === undefined || (key === 'digest' && !isDigest(read))) throw wrong(`this is no ${key}`);
      if (entry.has(key)) throw wrong(`\`${key}\` is there twice`);
      entry.set(key, read);
    } else throw wrong('it is indented in another way than tsv does it');
  }
  if (!versioned) throw wrongLine(file, 1, lines[0] ?? '', 'the file has no `version`');
  const entries = (from: Map<string, Map<string, unknown>>): Record<string, LockEntry> =>
    Object.fromEntries(
      [...from].map(([name, values]) => {
        const missing = ['date', 'digest', 'source'].find((fact) => !values.has(fact));
        const line = places.get(values) ?? 0;
        if (missing !== undefined)
          throw wrongLine(file, line + 1, lines[line] ?? '', `\`${missing}\` is missing in it`);
        return [name, Object.fromEntries(values) as unknown as LockEntry];
      }),
    );
  return { boxes: entries(found.boxes), images: entries(found.images) };
}

/** A text in JSON's quotes, which are YAML's, too. */
function textOf(quoted: string): string | undefined {
  try {
    const value: unknown = JSON.parse(quoted);
    return typeof value === 'string' ? value : undefined;
  } catch {
    return undefined;
  }
}

function wrongLine(file: string, line: number, text: string, why: string): TsvError {
  return new TsvError('TSV_LOCK_FILE', `${file}:${line}: ${why}`, {
    details: [`${line} | ${text.length > 200 ? `${text.slice(0, 200)}…` : text}`],
    hint: `put a good copy back (git checkout ${file}), or remove it: tsv lock writes a new one`,
  });
}
