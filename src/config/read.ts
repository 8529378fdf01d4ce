/**
 * Reading values out of the tree. All of these give undefined (or nothing) where the schema is not met: it has
 * reported that already, and what can be read of the rest is still checked.
 */
import type { Report, Span } from './diagnostic.ts';
import type { Entry, Node } from './tree.ts';
import { parseDuration, parseSize } from './units.ts';

export interface Located<T> {
  readonly value: T;
  readonly at: Span;
}

export const entryOf = (node: Node | undefined, key: string): Entry | undefined =>
  node?.kind === 'map' ? node.entries.get(key) : undefined;

export const fieldOf = (node: Node | undefined, key: string): Node | undefined => entryOf(node, key)?.value;

export const entriesOf = (node: Node | undefined): readonly Entry[] =>
  node?.kind === 'map' ? [...node.entries.values()] : [];

export const itemsOf = (node: Node | undefined): readonly Node[] => (node?.kind === 'seq' ? node.items : []);

export function textOf(node: Node | undefined): Located<string> | undefined {
  return node?.kind === 'scalar' && typeof node.value === 'string' ? { value: node.value, at: node.span } : undefined;
}

/** A text; numbers and booleans count as what is written, so that `1.10` stays `1.10`. */
export function wordOf(node: Node | undefined): Located<string> | undefined {
  if (node?.kind !== 'scalar' || node.value === null) return undefined;
  return { value: typeof node.value === 'string' ? node.value : node.text, at: node.span };
}

export function numberOf(node: Node | undefined): Located<number> | undefined {
  if (node?.kind !== 'scalar' || typeof node.value !== 'number' || !Number.isFinite(node.value)) return undefined;
  return { value: node.value, at: node.span };
}

export function booleanOf(node: Node | undefined): boolean | undefined {
  return node?.kind === 'scalar' && typeof node.value === 'boolean' ? node.value : undefined;
}

/** One of `allowed`, or undefined. */
export function choiceOf<T extends string>(node: Node | undefined, allowed: readonly T[]): Located<T> | undefined {
  const text = textOf(node);
  const value = allowed.find((name) => name === text?.value);
  return text === undefined || value === undefined ? undefined : { value, at: text.at };
}

export const wordsOf = (node: Node | undefined): readonly string[] =>
  itemsOf(node).flatMap((item) => wordOf(item)?.value ?? []);

/** argv of a command: a list as it is, a text through the shell. */
export function commandOf(node: Node | undefined): readonly string[] | undefined {
  const text = textOf(node);
  if (text !== undefined) return ['/bin/sh', '-c', text.value];
  const words = wordsOf(node);
  return words.length === 0 ? undefined : words;
}

/** `fromEntries` defines own properties, so that a variable named `__proto__` is one like any other. */
export const envOf = (node: Node | undefined): Readonly<Record<string, string>> =>
  Object.fromEntries(
    entriesOf(node).flatMap(({ key, value }) => {
      const word = wordOf(value);
      return word === undefined ? [] : [[key, word.value] as const];
    }),
  );

/** Bytes. */
export function sizeOf(node: Node | undefined, report: Report): Located<number> | undefined {
  const written = textOf(node) ?? numberOf(node);
  if (written === undefined) return undefined;
  const bytes = typeof written.value === 'number' ? written.value : parseSize(written.value);
  if (bytes !== undefined && Number.isSafeInteger(bytes)) return { value: bytes, at: written.at };
  // What does not look like a size is the schema's to report.
  if (/^[0-9.]+[KMGT]?$/i.test(String(written.value)))
    report(written.at, `the size ${written.value} is larger than any machine`);
  return undefined;
}

/** A file system in memory cannot be smaller: a page of x86-64, in bytes. */
export const leastPage = 4096;

const dayMs = 86_400_000;

/** Milliseconds, at most a day. */
export function durationOf(
  node: Node | undefined,
  report: Report,
  options: { orZero?: boolean } = {},
): number | undefined {
  const text = textOf(node);
  const ms = text === undefined ? undefined : parseDuration(text.value);
  if (text === undefined || ms === undefined) return undefined;
  if (ms > dayMs) report(text.at, `${text.value} is longer than a day`);
  if (ms === 0 && options.orZero !== true) report(text.at, `${text.value} is no time at all`, 'at least 1ms');
  return ms;
}

/** An absolute path in the machine, without `.`, `..` and doubled slashes. */
export function guestPathOf(node: Node | undefined, report: Report): Located<string> | undefined {
  const text = textOf(node);
  if (text === undefined || !text.value.startsWith('/')) return undefined;
  return { value: normalGuestPath(text, report), at: text.at };
}

/** The same for a path that is a part of a text. */
export function normalGuestPath(path: Located<string>, report: Report): string {
  const parts = path.value.split('/').filter((part) => part !== '' && part !== '.');
  if (parts.includes('..'))
    report(path.at, `the path ${path.value} goes through \`..\``, 'write the path that is meant');
  return `/${parts.join('/')}`;
}
