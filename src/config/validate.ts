import type { ErrorObject } from 'ajv';
import type { Report, Span } from './diagnostic.ts';
import { didYouMean } from './suggest.ts';
import { type Node, toData } from './tree.ts';
import { schemaValidator } from './validator.ts';

/** Words of other tools, and what they are called here. */
const foreignWords: Readonly<Record<string, string>> = {
  synced_folders: '`share`',
  environment: '`env`',
  cpu: '`cpus`',
  ram: '`memory`',
  scale: '`replicas`',
  services: '`machines`',
  cap_add: '`capabilities: { add: … }`',
  cap_drop: '`capabilities: { drop: … }`',
  security_opt: '`seccomp`',
  working_dir: '`workdir`',
  name: '`project`',
  '<<': '`defaults` (merge keys are not supported)',
  build: '`image` and `provision`: images are not built yet',
};

let validator: ReturnType<typeof schemaValidator> | undefined;

/** Holds the tree against the schema and reports every mistake in plain words. */
export function validateTree(root: Node, report: Report): void {
  validator ??= schemaValidator();
  if (validator(toData(root))) return;
  // Values made of variables are text; where a number or a boolean is wanted, they become one.
  const retyped = (validator.errors ?? []).filter((error) => error.keyword === 'type' && retype(root, error));
  if (retyped.length > 0 && validator(toData(root))) return;
  // What a branch misses is summed up by the error of its `oneOf`; what a key's schema says, by the inner error.
  const errors = (validator.errors ?? []).filter(
    ({ schemaPath, keyword }) => !/\/oneOf\/[0-9]+\//.test(schemaPath) && keyword !== 'propertyNames',
  );
  const mistyped = new Set(errors.filter(({ keyword }) => keyword === 'type').map(({ instancePath }) => instancePath));
  for (const error of errors) {
    // Of a value of the wrong type, that is all there is to say.
    if (error.keyword !== 'type' && mistyped.has(error.instancePath)) continue;
    const [message, hint] = describe(error);
    report(place(root, error), message, hint);
  }
}

/** Path of keys and indexes of a JSON pointer (RFC 6901). */
const pointerPath = (pointer: string): string[] =>
  pointer
    .split('/')
    .slice(1)
    .map((part) => part.replace(/~1/g, '/').replace(/~0/g, '~'));

function place(root: Node, error: ErrorObject): Span {
  let node = root;
  let span: Span = root.kind === 'scalar' ? root.span : { start: root.span.start, end: root.span.start + 1 };
  for (const part of pointerPath(error.instancePath)) {
    const entry = node.kind === 'map' ? node.entries.get(part) : undefined;
    const child = entry?.value ?? (node.kind === 'seq' ? node.items[Number(part)] : undefined);
    if (child === undefined) return span;
    // A collection is shown by its key, or by its first character.
    span =
      child.kind === 'scalar' ? child.span : (entry?.keySpan ?? { start: child.span.start, end: child.span.start + 1 });
    node = child;
  }
  const key = error.keyword === 'additionalProperties' ? String(error.params.additionalProperty) : error.propertyName;
  if (key !== undefined && node.kind === 'map') return node.entries.get(key)?.keySpan ?? span;
  return span;
}

/** Decimal numbers and booleans of the YAML 1.2 core schema. */
const decimal = /^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$/;

function retype(root: Node, error: ErrorObject): boolean {
  let node: Node | undefined = root;
  for (const part of pointerPath(error.instancePath)) {
    node =
      node?.kind === 'map'
        ? node.entries.get(part)?.value
        : node?.kind === 'seq'
          ? node.items[Number(part)]
          : undefined;
  }
  if (node?.kind !== 'scalar' || node.interpolated !== true || typeof node.value !== 'string') return false;
  const types = [error.params.type].flat().map(String);
  const wantsNumber = types.includes('number') || types.includes('integer');
  if (wantsNumber && decimal.test(node.value)) node.value = Number(node.value);
  else if (types.includes('boolean') && /^(?:true|false)$/.test(node.value)) node.value = node.value === 'true';
  else return false;
  return true;
}

/** Message and hint for one error of ajv. Every validation keyword that the schema uses has its case. */
export function describe(error: ErrorObject): [message: string, hint?: string | undefined] {
  const params = error.params as Record<string, unknown>;
  const owner = (error.parentSchema ?? {}) as Record<string, unknown>;
  const what = subject(error.instancePath);
  const limit = String(params.limit);
  switch (error.keyword) {
    case 'additionalProperties': {
      const key = String(params.additionalProperty);
      const known = Object.keys((owner.properties ?? {}) as object);
      const translated =
        Object.hasOwn(foreignWords, key) && !(key === 'name' && known.includes('name')) ? foreignWords[key] : undefined;
      const hint =
        didYouMean(key, known) ?? (translated === undefined ? `known here: ${known.join(', ')}` : `use ${translated}`);
      return [`unknown key \`${key}\``, hint];
    }
    case 'required':
      return [`${what} needs \`${String(params.missingProperty)}\``, example(owner, String(params.missingProperty))];
    case 'oneOf':
      return describeChoice(error, what);
    case 'type':
      if (error.data === null) return [`${what} is empty`, expected(owner)];
      return [`${what} must be ${typeNames(params.type)}, not ${nameOf(error.data)}`, expected(owner)];
    case 'pattern': {
      const value = error.propertyName ?? error.data;
      return [`${quote(value)} is ${lowerFirst(String(owner.patternErrorMessage))}`];
    }
    case 'enum':
      return describeEnum(error, params.allowedValues as readonly unknown[], what);
    case 'minimum':
      return [`${what} must be at least ${limit}, not ${quote(error.data)}`];
    case 'maximum':
      return [`${what} must be at most ${limit}, not ${quote(error.data)}`];
    case 'minLength':
      return [`${what} must not be an empty text`];
    case 'maxLength':
      return [`${what} must have at most ${limit} characters`];
    case 'minItems':
    case 'minProperties':
      return [`${what} must not be empty`];
    case 'maxItems':
      return [`${what} must have at most ${limit} items`];
    default:
      return [`${what} is not valid (${error.keyword})`];
  }
}

function describeChoice(error: ErrorObject, what: string): [string, (string | undefined)?] {
  const branches = error.schema as readonly { readonly required?: readonly string[] }[];
  const namesOf = (some: typeof branches) => some.flatMap(({ required = [] }) => required).map((name) => `\`${name}\``);
  // The first two branches that fit, by their index.
  const both: unknown = error.params.passingSchemas;
  if (Array.isArray(both))
    return [
      `${what} has ${namesOf(branches.filter((_, i) => both.includes(i))).join(' and ')}; only one of them can be`,
    ];
  const names = namesOf(branches);
  return [`${what} needs ${names.slice(0, -1).join(', ')} or ${names.at(-1)}`];
}

function describeEnum(error: ErrorObject, allowed: readonly unknown[], what: string): [string, (string | undefined)?] {
  const list = allowed.map(String);
  if (error.instancePath.endsWith('/mode') && ['routed', 'bridged'].includes(String(error.data))) {
    return [`networks of mode \`${String(error.data)}\` are not supported yet`, `use ${list.join(' or ')}`];
  }
  const message = `${what} cannot be ${quote(error.data)}`;
  const hint = typeof error.data === 'string' ? didYouMean(error.data, list) : undefined;
  return [message, hint ?? (list.length === 1 ? `it must be ${list[0]}` : `one of: ${list.join(', ')}`)];
}

/** What a pointer points at, as a user calls it. */
function subject(pointer: string): string {
  const path = pointerPath(pointer);
  const last = path.at(-1);
  if (last === undefined) return 'the Tsfile';
  if (!/^[0-9]+$/.test(last)) return `\`${last}\``;
  const list = path.findLast((part) => !/^[0-9]+$/.test(part));
  return `an item of \`${list ?? ''}\``;
}

const typeWords: Readonly<Record<string, string>> = {
  object: 'a map',
  array: 'a list',
  string: 'a text',
  integer: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
};

function typeNames(type: unknown): string {
  const words = [type].flat().flatMap((name) => typeWords[String(name)] ?? []);
  return words.length < 2 ? words.join('') : `${words.slice(0, -1).join(', ')} or ${words.at(-1)}`;
}

function nameOf(value: unknown): string {
  if (Array.isArray(value)) return 'a list';
  if (typeof value === 'object') return 'a map';
  return typeof value === 'string' ? `the text ${quote(value)}` : quote(value);
}

/** What a value of this schema looks like, taken from its `patternErrorMessage` or `examples`. */
function expected(owner: Record<string, unknown>): string | undefined {
  const brackets = /\((.*)\)$/.exec(String(owner.patternErrorMessage ?? ''))?.[1];
  if (brackets !== undefined) return `expected: ${brackets}`;
  const first = Array.isArray(owner.examples) ? owner.examples[0] : undefined;
  return first === undefined ? undefined : `for example: ${typeof first === 'string' ? first : JSON.stringify(first)}`;
}

function example(owner: Record<string, unknown>, key: string): string | undefined {
  const property = ((owner.properties ?? {}) as Record<string, { examples?: readonly unknown[] }>)[key];
  const first = property?.examples?.[0];
  return first === undefined
    ? undefined
    : `for example: ${key}: ${typeof first === 'string' ? first : JSON.stringify(first)}`;
}

function quote(value: unknown): string {
  if (typeof value !== 'string') return String(value);
  return JSON.stringify(value.length > 60 ? `${value.slice(0, 57)}…` : value);
}

const lowerFirst = (text: string): string => text.charAt(0).toLowerCase() + text.slice(1);
