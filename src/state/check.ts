/**
 * Narrow checks for plain JSON. Each looks at a value and gives it back typed, or throws a {@link Mismatch} with
 * the place. A schema library would do more, and cost every `tsv status` its load time.
 */
export type Check<T> = (value: unknown, at: string) => T;

export class Mismatch extends Error {
  constructor(at: string, expected: string) {
    super(`${at === '' ? 'the file' : at}: ${expected}`);
  }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const inside = (at: string, key: string): string => (at === '' ? key : `${at}.${key}`);

export const text: Check<string> = (value, at) => {
  if (typeof value !== 'string') throw new Mismatch(at, 'not a text');
  return value;
};

export const matching =
  (pattern: RegExp, expected: string): Check<string> =>
  (value, at) => {
    if (typeof value !== 'string' || !pattern.test(value)) throw new Mismatch(at, `not ${expected}`);
    return value;
  };

export const bool: Check<boolean> = (value, at) => {
  if (typeof value !== 'boolean') throw new Mismatch(at, 'neither true nor false');
  return value;
};

export const number: Check<number> = (value, at) => {
  if (typeof value !== 'number' || value < 0) throw new Mismatch(at, 'not a number of 0 or more');
  return value;
};

export const wholeFrom =
  (least: number): Check<number> =>
  (value, at) => {
    if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < least) {
      throw new Mismatch(at, `not a whole number of ${least} or more`);
    }
    return value;
  };

export const oneOf =
  <T extends string>(...words: readonly T[]): Check<T> =>
  (value, at) => {
    const word = words.find((candidate) => candidate === value);
    if (word === undefined) throw new Mismatch(at, `not one of ${words.join(', ')}`);
    return word;
  };

export const list =
  <T>(item: Check<T>): Check<readonly T[]> =>
  (value, at) => {
    if (!Array.isArray(value)) throw new Mismatch(at, 'not a list');
    value.forEach((entry: unknown, index) => {
      item(entry, `${at}[${index}]`);
    });
    return value as T[];
  };

/** A map; `key` looks at each key. */
export const mapOf =
  <T>(item: Check<T>, key: Check<string> = text): Check<Readonly<Record<string, T>>> =>
  (value, at) => {
    if (!isRecord(value)) throw new Mismatch(at, 'not a map');
    for (const [name, entry] of Object.entries(value)) {
      key(name, `a key of ${at}`);
      item(entry, inside(at, name));
    }
    return value as Record<string, T>;
  };

/** Anything that JSON can hold. */
export const anything: Check<unknown> = (value) => value;

type OptionalKeys<T> = { [K in keyof T]-?: undefined extends T[K] ? K : never }[keyof T];

/** An object with at least these fields. Both lists together name every field of T, or it does not compile. */
export const object =
  <T extends object>(
    required: { readonly [K in Exclude<keyof T, OptionalKeys<T>>]: Check<T[K]> },
    optional: { readonly [K in OptionalKeys<T>]: Check<Exclude<T[K], undefined>> },
  ): Check<T> =>
  (value, at) => {
    if (!isRecord(value)) throw new Mismatch(at, 'not an object');
    for (const [key, check] of Object.entries<Check<unknown>>(required)) check(value[key], inside(at, key));
    for (const [key, check] of Object.entries<Check<unknown>>(optional)) {
      if (value[key] !== undefined) check(value[key], inside(at, key));
    }
    return value as T;
  };
