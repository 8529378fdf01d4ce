import { closest } from '../config/suggest.ts';
import { TsvError } from '../model/errors.ts';

/*
 * The language of `inspect --format`:
 *
 *   .state                        a member
 *   .networks.default.address     a member of a member
 *   .forwards[0].host             an element of a list, from 0
 *   .image.labels["a.b"]          a member whose name is no plain word
 *   .                             everything
 *   {{.name}} is {{.state}}       a text with such paths in it
 *
 * Names may be written in any case, and `{{ .State }}` with spaces, as who comes from docker inspect would.
 */

/** What is at a path of a value, or the text with paths in it. @throws TSV_USAGE for what is no path, or leads nowhere */
export function select(expression: string, value: unknown): unknown {
  if (!expression.includes('{{')) return follow(expression.trim(), value);
  return expression.replace(/\{\{(.*?)\}\}/g, (_, path: string) => textOf(follow(path.trim(), value)));
}

/** Texts as they are, everything else as JSON. */
export const textOf = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

type Step = { readonly member: string } | { readonly index: number };

function follow(path: string, value: unknown): unknown {
  let at = value;
  let walked = '';
  for (const step of parsePath(path)) {
    at = 'index' in step ? elementOf(at, step.index, walked) : memberOf(at, step.member, walked);
    walked += 'index' in step ? `[${step.index}]` : shown(step.member);
  }
  return at;
}

function parsePath(path: string): Step[] {
  const steps: Step[] = [];
  const word = /\.([A-Za-z_][\w-]*)|\.?\[(\d+)\]|\.?\["([^"]*)"\]/y;
  if (path === '.') return steps;
  while (word.lastIndex < path.length) {
    const start = word.lastIndex;
    const match = word.exec(path);
    if (match === null) throw noPath(path, start);
    const [, plain, index, quoted] = match;
    steps.push(index === undefined ? { member: plain ?? quoted ?? '' } : { index: Number(index) });
  }
  if (steps.length === 0) throw noPath(path, 0);
  return steps;
}

const noPath = (path: string, at: number): TsvError =>
  new TsvError('TSV_USAGE', `--format: '${path}' is no path`, {
    details: at === 0 ? ['a path begins with a dot'] : [`not understood: ${path.slice(at)}`],
    hint: 'for example .state, .networks.default.address, .forwards[0].host or .image.labels["a.b"]',
  });

function memberOf(value: unknown, name: string, walked: string): unknown {
  const where = walked === '' ? 'a machine' : walked;
  if (Array.isArray(value)) {
    throw new TsvError('TSV_USAGE', `--format: ${where} is a list, and has no .${name}`, {
      details: [`it has ${value.length} elements`],
      hint: `${walked}[0]`,
    });
  }
  if (typeof value !== 'object' || value === null)
    throw new TsvError('TSV_USAGE', `--format: ${where} is ${textOf(value)}, and has no .${name}`);
  const members = Object.entries(value);
  const found = members.find(([key]) => key === name) ?? members.find(([key]) => sameWord(key, name));
  if (found !== undefined) return found[1];
  const keys = members.map(([key]) => key);
  const near = closest(name, keys);
  throw new TsvError('TSV_USAGE', `--format: ${where} has no .${name}`, {
    details: [keys.length === 0 ? 'it is empty' : `it has ${keys.map(shown).join(' ')}`],
    ...(near === undefined ? {} : { hint: `did you mean ${walked}${shown(near)}?` }),
  });
}

function elementOf(value: unknown, index: number, walked: string): unknown {
  const where = walked === '' ? 'a machine' : walked;
  if (!Array.isArray(value)) throw new TsvError('TSV_USAGE', `--format: ${where} is no list, and has no [${index}]`);
  if (index < value.length) return value[index];
  throw new TsvError('TSV_USAGE', `--format: ${where} has no [${index}]`, {
    details: [value.length === 0 ? 'it is empty' : `its last element is [${value.length - 1}]`],
  });
}

const sameWord = (a: string, b: string): boolean => a.toLowerCase() === b.toLowerCase();
const shown = (key: string): string => (/^[A-Za-z_][\w-]*$/.test(key) ? `.${key}` : `["${key}"]`);
