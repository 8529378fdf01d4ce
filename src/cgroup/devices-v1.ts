import { accessLetters, allAccess, type DeviceRule } from './devices.ts';

/*
 * The devices controller of v1 (kernel: admin-guide/cgroup-v1/devices.rst) is either "all but" or "none but" a list of
 * exceptions. Taking a device out of an exception with a wildcard does nothing there, silently, so that a list of rules
 * cannot simply be written line by line.
 */

export interface DeviceList {
  readonly allowAll: boolean;
  /** Access bits by `c 1:3` or `b 8:*`. */
  readonly exceptions: ReadonlyMap<string, number>;
}

/** A write to devices.allow or devices.deny. */
export interface DeviceWrite {
  readonly file: 'devices.allow' | 'devices.deny';
  readonly value: string;
}

/** The list that means what the rules mean; or the index of the rule that this controller cannot express, and why. */
export function deviceList(
  rules: readonly DeviceRule[],
): DeviceList | { readonly rule: number; readonly reason: string } {
  let allowAll = false;
  let exceptions = new Map<string, number>();
  for (const [index, rule] of rules.entries()) {
    if (rule.type === undefined && rule.major === undefined && rule.minor === undefined && rule.access === allAccess) {
      allowAll = rule.allow;
      exceptions = new Map();
      continue;
    }
    const next = new Map(exceptions);
    const reason = (rule.type === undefined ? (['b', 'c'] as const) : [rule.type])
      .map((type) => apply(next, allowAll, { ...rule, type }))
      .find((text) => text !== undefined);
    if (reason === undefined) exceptions = next;
    else if (rule.standard !== true) return { rule: index, reason };
  }
  return { allowAll, exceptions };
}

function apply(
  exceptions: Map<string, number>,
  allowAll: boolean,
  rule: DeviceRule & { readonly type: 'b' | 'c' },
): string | undefined {
  const key = print(rule);
  if (rule.allow !== allowAll) {
    exceptions.set(key, (exceptions.get(key) ?? 0) | rule.access);
    return undefined;
  }
  for (const [other, bits] of exceptions) {
    if ((bits & rule.access) === 0 || !overlaps(rule, other)) continue;
    if (!covers(rule, other)) return `cgroup v1 cannot take ${key} out of ${other}`;
    if ((bits & ~rule.access) === 0) exceptions.delete(other);
    else exceptions.set(other, bits & ~rule.access);
  }
  return undefined;
}

const print = ({ type, major, minor }: DeviceRule): string => `${type} ${major ?? '*'}:${minor ?? '*'}`;

function parts(key: string): [type: string, major: string, minor: string] {
  const [type = '', major = '', minor = ''] = key.split(/[ :]/);
  return [type, major, minor];
}

function overlaps(rule: DeviceRule, key: string): boolean {
  const [type, major, minor] = parts(key);
  const meets = (mine: number | undefined, other: string) => mine === undefined || other === '*' || `${mine}` === other;
  return rule.type === type && meets(rule.major, major) && meets(rule.minor, minor);
}

function covers(rule: DeviceRule, key: string): boolean {
  const [type, major, minor] = parts(key);
  const holds = (mine: number | undefined, other: string) => mine === undefined || `${mine}` === other;
  return rule.type === type && holds(rule.major, major) && holds(rule.minor, minor);
}

/** What devices.list says. Of "all but" it does not list the exceptions. */
export function parseDeviceList(text: string): DeviceList {
  const exceptions = new Map<string, number>();
  let allowAll = false;
  for (const line of text.split('\n')) {
    const [type = '', numbers = '', letters = ''] = line.trim().split(' ');
    if (type === 'a') allowAll = true;
    else if (numbers !== '') exceptions.set(`${type} ${numbers}`, bitsOf(letters));
  }
  return { allowAll, exceptions: allowAll ? new Map() : exceptions };
}

const bitsOf = (letters: string): number =>
  (letters.includes('m') ? 1 : 0) | (letters.includes('r') ? 2 : 0) | (letters.includes('w') ? 4 : 0);

/**
 * The writes that lead from one list to the other. Between two lists of "none but", what stays allowed is allowed all the
 * time: a running container notices nothing.
 */
export function deviceWrites(current: DeviceList, wanted: DeviceList): DeviceWrite[] {
  const reset = current.allowAll || wanted.allowAll;
  const before = reset ? new Map<string, number>() : current.exceptions;
  const add = wanted.allowAll ? 'devices.deny' : 'devices.allow';
  const remove = wanted.allowAll ? 'devices.allow' : 'devices.deny';
  return [
    ...(reset ? [{ file: wanted.allowAll ? 'devices.allow' : 'devices.deny', value: 'a' } as const] : []),
    ...difference(wanted.exceptions, before).map((value): DeviceWrite => ({ file: add, value })),
    ...difference(before, wanted.exceptions).map((value): DeviceWrite => ({ file: remove, value })),
  ];
}

/** Lines such as `c 1:3 rw` for what the one has and the other has not. */
function difference(one: ReadonlyMap<string, number>, other: ReadonlyMap<string, number>): string[] {
  return [...one].flatMap(([key, bits]) => {
    const rest = bits & ~(other.get(key) ?? 0);
    return rest === 0 ? [] : [`${key} ${accessLetters(rest)}`];
  });
}
