import { isAlias, isMap, isScalar, isSeq, type ParsedNode } from 'yaml';
import type { Report, Source, Span } from './diagnostic.ts';
import { parseYaml } from './syntax.ts';
import { interpolate, type Variables } from './variables.ts';

export interface Entry {
  readonly key: string;
  readonly keySpan: Span;
  readonly value: Node;
}

export interface MapNode {
  readonly kind: 'map';
  readonly span: Span;
  readonly entries: ReadonlyMap<string, Entry>;
}

export interface SeqNode {
  readonly kind: 'seq';
  readonly span: Span;
  readonly items: readonly Node[];
}

export interface ScalarNode {
  readonly kind: 'scalar';
  readonly span: Span;
  /** Text made of variables becomes a number or boolean later, if the schema wants one there. */
  value: string | number | boolean | null;
  readonly interpolated?: true;
  /** A part of it is the value of a variable, from the environment or `.env`. */
  readonly variable?: true;
  /** As it is written: `1.10` and `0644` keep their zeros. */
  readonly text: string;
}

/** A YAML value with its place. Aliases are resolved (nodes may be shared), variables replaced. */
export type Node = MapNode | SeqNode | ScalarNode;

/** More values than this, counted with aliases expanded, are a mistake or an attack. */
const valueLimit = 20_000;
const depthLimit = 64;

/**
 * The tree of a text, with variables replaced in its scalar values, never in keys.
 * Undefined when the text is no YAML or too much of it.
 */
export function parseTree(source: Source, variables: Variables, report: Report): Node | undefined {
  const document = parseYaml(source, report);
  return document && new Converter(source, variables, report).root(document.contents);
}

class Converter {
  readonly #source: Source;
  readonly #variables: Variables;
  readonly #report: Report;
  /** What an anchor's name means at this point of the file. */
  readonly #anchors = new Map<string, { node: Node; values: number }>();
  /** Anchors whose value is being read: an alias to one of them would never end. */
  readonly #open = new Set<string>();
  #values = 0;
  #broken = false;

  constructor(source: Source, variables: Variables, report: Report) {
    this.#source = source;
    this.#variables = variables;
    this.#report = report;
  }

  root(contents: ParsedNode | null): Node | undefined {
    const node = this.#convert(contents, { start: 0, end: 0 }, []);
    if (this.#broken) return undefined;
    if (this.#values <= valueLimit) return node;
    this.#report(
      { start: 0, end: 1 },
      `the file holds more than ${valueLimit} values (aliases count as what they stand for)`,
    );
    return undefined;
  }

  /** `at` is the place to show for a value that is not written at all. */
  #convert(yaml: ParsedNode | null, at: Span, path: readonly string[]): Node {
    if (this.#values > valueLimit) return this.#nothing(at);
    if (yaml === null) return this.#count(this.#nothing(at));
    const span = yaml.range[1] > yaml.range[0] ? { start: yaml.range[0], end: yaml.range[1] } : at;
    if (isAlias(yaml)) {
      const target = this.#anchors.get(yaml.source);
      if (target === undefined || this.#open.has(yaml.source)) {
        this.#broken = true;
        if (this.#open.has(yaml.source)) this.#report(span, `the alias *${yaml.source} stands inside its own anchor`);
        else
          this.#report(
            span,
            `no anchor &${yaml.source} stands before this alias`,
            'put a text that starts with * into quotes',
          );
        return this.#nothing(span);
      }
      this.#values += target.values;
      return target.node;
    }
    if (path.length > depthLimit) {
      this.#report(span, 'the file is nested too deeply');
      return this.#nothing(span);
    }
    const before = this.#values;
    const { anchor } = yaml;
    if (anchor === undefined) return this.#collection(yaml, span, path);
    this.#open.add(anchor);
    const node = this.#collection(yaml, span, path);
    this.#open.delete(anchor);
    this.#anchors.set(anchor, { node, values: this.#values - before });
    return node;
  }

  #collection(yaml: ParsedNode, span: Span, path: readonly string[]): Node {
    if (isSeq(yaml)) {
      this.#values += 1;
      const items = (yaml.items as ParsedNode[]).map((item, index) =>
        this.#convert(item, span, [...path, String(index)]),
      );
      return { kind: 'seq', span, items };
    }
    if (isMap(yaml)) {
      this.#values += 1;
      const entries = new Map<string, Entry>();
      for (const pair of yaml.items as { key: ParsedNode | null; value: ParsedNode | null }[]) {
        const { key: keyNode, value } = pair;
        const keySpan =
          keyNode === null || keyNode.range[1] === keyNode.range[0]
            ? span
            : { start: keyNode.range[0], end: keyNode.range[1] };
        if (keyNode !== null && !isScalar(keyNode)) {
          this.#report(keySpan, 'a key is a plain text, not a list, a map or an alias');
          continue;
        }
        const key = keyNode === null ? '' : typeof keyNode.value === 'string' ? keyNode.value : (keyNode.source ?? '');
        const converted = this.#convert(value, keySpan, [...path, key]);
        const first = entries.get(key);
        if (first === undefined) entries.set(key, { key, keySpan, value: converted });
        else {
          const line = this.#source.lineAt(first.keySpan.start);
          this.#report(keySpan, `the key \`${key}\` is here a second time`, `the first is in line ${line}`);
        }
      }
      return { kind: 'map', span, entries };
    }
    return this.#count(this.#scalar(yaml, span, path));
  }

  #scalar(yaml: ParsedNode, span: Span, path: readonly string[]): ScalarNode {
    const value: unknown = isScalar(yaml) ? yaml.value : null;
    if (value === null || typeof value === 'number' || typeof value === 'boolean') {
      const text = (isScalar(yaml) ? yaml.source : undefined) ?? String(value);
      return { kind: 'scalar', span, value, text };
    }
    if (typeof value !== 'string') {
      this.#report(span, 'this kind of value means nothing in a Tsfile', 'put it into quotes');
      return this.#nothing(span);
    }
    if (value.includes('\0')) this.#report(span, 'a NUL character cannot be in a value');
    // `$` in a script belongs to the shell.
    const isScript = path.at(-1) === 'inline' && path.at(-2) === 'shell';
    if (isScript || !value.includes('$')) return { kind: 'scalar', span, value, text: value };
    const { text, mistakes, used } = interpolate(value, this.#variables);
    for (const mistake of mistakes) this.#report(this.#place(span, value, mistake), mistake.message, mistake.hint);
    if (text.includes('\0')) this.#report(span, 'a NUL character cannot be in a value');
    return { kind: 'scalar', span, value: text, text, interpolated: true, ...(used ? { variable: true } : {}) };
  }

  /** Where a mistake in a scalar's value is in the file: found by counting the `$`, as escapes and folding move the rest. */
  #place(span: Span, value: string, mistake: { offset: number; length: number }): Span {
    const nth = value.slice(0, mistake.offset).split('$').length;
    const raw = this.#source.text.slice(span.start, span.end);
    if (raw.split('$').length !== value.split('$').length) return span;
    let at = -1;
    for (let i = 0; i < nth; i++) at = raw.indexOf('$', at + 1);
    return { start: span.start + at, end: span.start + at + mistake.length };
  }

  #count<T extends Node>(node: T): T {
    this.#values += 1;
    return node;
  }

  #nothing(span: Span): ScalarNode {
    return { kind: 'scalar', span, value: null, text: '' };
  }
}

/** Whether something in it came from the environment or `.env`. */
export function hasVariable(node: Node | undefined): boolean {
  if (node === undefined) return false;
  if (node.kind === 'scalar') return node.variable === true;
  if (node.kind === 'seq') return node.items.some(hasVariable);
  return [...node.entries.values()].some(({ value }) => hasVariable(value));
}

/** Plain data for the schema's validator. Maps have no prototype, so `__proto__` is a key like any other. */
export function toData(node: Node): unknown {
  if (node.kind === 'scalar') return node.value;
  if (node.kind === 'seq') return node.items.map(toData);
  const data: Record<string, unknown> = Object.create(null);
  for (const { key, value } of node.entries.values()) data[key] = toData(value);
  return data;
}
