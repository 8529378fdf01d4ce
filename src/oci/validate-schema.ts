import type { ErrorObject } from 'ajv';
import { schemaValidator } from './validator.ts';

/** Something that is wrong with a document: where, as keys and indexes, and what. */
export interface Problem {
  readonly path: readonly (string | number)[];
  readonly message: string;
}

let validator: ReturnType<typeof schemaValidator> | undefined;

/** Holds a document against config.schema.json; the problems come in the order of the schema. */
export function schemaProblems(document: unknown): readonly Problem[] {
  validator ??= schemaValidator();
  if (validator(document)) return [];
  return (validator.errors ?? [])
    .filter(({ keyword }) => keyword !== 'propertyNames')
    .map((error) => describe(error, document));
}

/** `linux.resources.memory.limit`, `process.args[0]`, `linux.sysctl["net.core.somaxconn"]`. */
export function printPath(path: readonly (string | number)[]): string {
  return path
    .map((key) => {
      if (typeof key === 'number') return `[${key}]`;
      return /^[A-Za-z_][A-Za-z0-9_]*$/.test(key) ? `.${key}` : `[${quote(key)}]`;
    })
    .join('')
    .replace(/^\./, '');
}

/** A value as a message shows it: in one line, of bounded length. */
export function quote(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object' && value !== null) return 'an object';
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}...` : value);
}

const anyText = '^[^\\u0000]*$';

/** What a value must be that does not match a pattern of the schema; a unit test finds each in it. */
export const patternMessages: Readonly<Record<string, string>> = {
  [anyText]: 'must not contain a NUL character',
  '^/[^\\u0000]*$': 'must be an absolute path',
  '^[rwm]+$': 'must be made of r, w and m',
  '^[1-9][0-9]*[KMG]B$': 'must be a size such as 2MB or 1GB',
  '^[^\\u0000-\\u0020/]+$': 'must be a name without spaces and slashes',
  '^(?!\\.)[A-Za-z0-9_.-]+$': 'must be the name of a file in a cgroup',
};

const typeNames: Readonly<Record<string, string>> = {
  object: 'an object',
  array: 'a list',
  string: 'a text',
  integer: 'a whole number',
  boolean: 'true or false',
};

function describe(error: ErrorObject, document: unknown): Problem {
  const { path, value } = locate(error.instancePath, document);
  const params = error.params as Readonly<Record<string, unknown>>;
  if (error.keyword === 'required') return { path: [...path, String(params.missingProperty)], message: 'is missing' };
  const name = error.propertyName;
  const is = `, not ${quote(name ?? value)}`;
  const message = ((): string => {
    switch (error.keyword) {
      case 'type':
        return `must be ${typeNames[String(params.type)] ?? String(params.type)}${is}`;
      case 'pattern':
        // A text with a NUL may be an environment variable, whose value is not for messages.
        return `${patternMessages[String(params.pattern)] ?? `must match ${String(params.pattern)}`}${params.pattern === anyText ? '' : is}`;
      case 'enum': {
        const allowed = (params.allowedValues as readonly unknown[]).map(String);
        return allowed.length > 10 ? `${quote(name ?? value)} is not known` : `must be ${orList(allowed)}${is}`;
      }
      case 'minimum':
        return `must be at least ${String(params.limit)}${is}`;
      case 'maximum':
        return `must be at most ${String(params.limit)}${is}`;
      case 'minItems':
        return 'must not be empty';
      case 'maxItems':
        return 'must be empty, none is supported';
      default:
        return `is not valid (${error.keyword})`;
    }
  })();
  return { path: name === undefined ? path : [...path, name], message };
}

const orList = (words: readonly string[]): string =>
  words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;

/** Follows a JSON pointer, RFC 6901. */
function locate(pointer: string, document: unknown): { path: (string | number)[]; value: unknown } {
  const path: (string | number)[] = [];
  let value = document;
  for (const part of pointer.split('/').slice(1)) {
    const key = part.replace(/~1/g, '/').replace(/~0/g, '~');
    path.push(Array.isArray(value) ? Number(key) : key);
    value = (value as Readonly<Record<string, unknown>>)[key];
  }
  return { path, value };
}
