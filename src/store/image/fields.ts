import { TsvError } from '../../model/errors.ts';

/** A document that is not what it has to be. `at`: where in it. */
export const malformed = (what: string, at: string, why: string): TsvError =>
  new TsvError('TSV_IMAGE', `${what} is malformed`, {
    details: [at === '' ? why : `${at}: ${why}`],
    hint: 'whoever made the image has to mend it',
  });

/** The JSON of a document: strict UTF-8, an object. Of a key that is there twice the last counts, as everywhere. */
export function parseObject(bytes: Uint8Array, what: string): Fields {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes));
  } catch (cause) {
    // V8 quotes what it could not read: it may be anything, of any length.
    throw malformed(what, '', `it is no JSON (${cause instanceof TypeError ? 'not UTF-8' : 'syntax'})`);
  }
  return new Fields(value, what, '');
}

/**
 * The fields of an object of somebody else's JSON, each asked for by name and kind. `null` is the same as absent: Go
 * programs write it for what is empty.
 */
export class Fields {
  readonly #value: Readonly<Record<string, unknown>>;
  readonly #what: string;
  readonly #at: string;

  constructor(value: unknown, what: string, at: string) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) throw malformed(what, at, 'no object');
    this.#value = value as Record<string, unknown>;
    this.#what = what;
    this.#at = at;
  }

  has(name: string): boolean {
    return this.#get(name) !== undefined;
  }

  /** Without NUL, which no argument, name or path can have. */
  text(name: string): string | undefined {
    const value = this.#get(name);
    return value === undefined ? undefined : this.#text(value, this.at(name));
  }

  bool(name: string): boolean | undefined {
    const value = this.#get(name);
    if (value === undefined || typeof value === 'boolean') return value;
    throw this.wrong(name, 'neither true nor false');
  }

  /** A whole number of 0 or more. */
  count(name: string): number | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
    throw this.wrong(name, 'no whole number of 0 or more');
  }

  object(name: string): Fields | undefined {
    const value = this.#get(name);
    return value === undefined ? undefined : new Fields(value, this.#what, this.at(name));
  }

  /** @throws TSV_IMAGE for more than `limit` entries */
  list(name: string, limit: number): readonly unknown[] | undefined {
    const value = this.#get(name);
    if (value === undefined) return undefined;
    if (!Array.isArray(value)) throw this.wrong(name, 'no list');
    if (value.length > limit) throw this.wrong(name, `${value.length} entries; at most ${limit} are possible`);
    return value;
  }

  objects(name: string, limit: number): readonly Fields[] | undefined {
    return this.list(name, limit)?.map((item, index) => new Fields(item, this.#what, `${this.at(name)}[${index}]`));
  }

  texts(name: string, limit: number): readonly string[] | undefined {
    return this.list(name, limit)?.map((item, index) => this.#text(item, `${this.at(name)}[${index}]`));
  }

  /** A map of texts. */
  map(name: string): Readonly<Record<string, string>> | undefined {
    const object = this.object(name);
    if (object === undefined) return undefined;
    return Object.fromEntries(object.keys().map((key) => [key, object.text(key) ?? '']));
  }

  keys(): string[] {
    return Object.keys(this.#value);
  }

  at(name: string): string {
    return this.#at === '' ? name.slice(0, 100) : `${this.#at}.${name.slice(0, 100)}`;
  }

  wrong(name: string, why: string): TsvError {
    return malformed(this.#what, this.at(name), why);
  }

  #get(name: string): unknown {
    return Object.hasOwn(this.#value, name) ? (this.#value[name] ?? undefined) : undefined;
  }

  #text(value: unknown, at: string): string {
    if (typeof value !== 'string') throw malformed(this.#what, at, 'no text');
    if (value.includes('\0')) throw malformed(this.#what, at, 'a NUL byte in it');
    return value;
  }
}
