import { describe, expect, test } from 'vitest';
import { deviceFilter, encodeFilter, type Instruction, op } from '../../../src/cgroup/device-filter.ts';
import { allAccess, type DeviceRule, deviceRules } from '../../../src/cgroup/devices.ts';
import { type DeviceList, deviceList, deviceWrites, parseDeviceList } from '../../../src/cgroup/devices-v1.ts';
import type { OciDeviceRule } from '../../../src/oci/spec.ts';

interface Request {
  readonly type: 'b' | 'c';
  readonly major: number;
  readonly minor: number;
  readonly access: number;
}

/** What the specification says: entries in the listed order, each changing what is allowed. */
function isAllowed(rules: readonly DeviceRule[], request: Request): boolean {
  let allowed = 0;
  for (const rule of rules) {
    if (rule.type !== undefined && rule.type !== request.type) continue;
    if (rule.major !== undefined && rule.major !== request.major) continue;
    if (rule.minor !== undefined && rule.minor !== request.minor) continue;
    allowed = rule.allow ? allowed | rule.access : allowed & ~rule.access;
  }
  return (request.access & ~allowed) === 0;
}

/** Runs the program as the kernel does, from its bytes; anything that the verifier would refuse is an error. */
function runFilter(bytes: Buffer, { type, major, minor, access }: Request): number {
  const context = [((access << 16) | (type === 'b' ? 1 : 2)) >>> 0, major, minor];
  const registers: (number | undefined)[] = [];
  const read = (register: number) => registers[register] ?? expect.fail(`r${register} is read before it is written`);
  const length = bytes.length / 8;
  for (let at = 0, steps = 0; ; at++) {
    if (at >= length || at < 0) return expect.fail(`jump out of the program to ${at}`);
    if (++steps > 10_000) return expect.fail('endless');
    const code = bytes.readUInt8(at * 8);
    const dst = bytes.readUInt8(at * 8 + 1) & 15;
    const src = bytes.readUInt8(at * 8 + 1) >> 4;
    const offset = bytes.readInt16LE(at * 8 + 2);
    const value = bytes.readInt32LE(at * 8 + 4);
    if (code === op.load32) registers[dst] = src === 1 ? context[offset / 4] : expect.fail('not the context');
    else if (code === op.move32) registers[dst] = read(src) >>> 0;
    else if (code === op.set) registers[dst] = value;
    else if (code === op.and32) registers[dst] = (read(dst) & value) >>> 0;
    else if (code === op.shiftRight32) registers[dst] = read(dst) >>> value;
    else if (code === op.jump) at += offset;
    else if (code === op.jumpIfNot) at += read(dst) === value ? 0 : offset;
    else if (code === op.jumpIfAnyBit) at += (read(dst) & value) === 0 ? 0 : offset;
    else if (code === op.exit) return read(0);
    else expect.fail(`unknown instruction ${code}`);
  }
}

/** Every instruction can be reached: older verifiers refuse the program otherwise. */
function unreachable(program: readonly Instruction[]): number[] {
  const reached = new Set<number>();
  const visit = (at: number): void => {
    for (let i = at; !reached.has(i); i++) {
      const instruction = program[i] ?? expect.fail(`it runs out at ${i}`);
      reached.add(i);
      if (instruction.code === op.exit) return;
      if (instruction.code === op.jump) i += instruction.offset ?? 0;
      else if ((instruction.code & 7) === 5) visit(i + 1 + (instruction.offset ?? 0));
    }
  };
  visit(0);
  return program.map((_, i) => i).filter((i) => !reached.has(i));
}

/** mulberry32: the same random numbers each time. */
function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

function randomRules(random: (below: number) => number): DeviceRule[] {
  return Array.from({ length: random(12) }, () => ({
    allow: random(2) === 0,
    access: random(3) === 0 ? allAccess : 1 + random(7),
    ...(random(3) === 0 ? {} : { type: random(2) === 0 ? ('b' as const) : ('c' as const) }),
    ...(random(3) === 0 ? {} : { major: random(3) }),
    ...(random(3) === 0 ? {} : { minor: random(3) }),
  }));
}

const requests: Request[] = (['b', 'c'] as const).flatMap((type) =>
  [0, 1, 2, 3].flatMap((major) =>
    [0, 1, 2, 3].flatMap((minor) => [1, 2, 3, 4, 5, 6, 7].map((access) => ({ type, major, minor, access }))),
  ),
);

describe('the filter of v2', () => {
  test('decides as the rules do, for any rules and any request', () => {
    const random = generator(20);
    let allowed = 0;
    for (let round = 0; round < 500; round++) {
      const rules = randomRules(random);
      const program = deviceFilter(rules);
      expect(unreachable(program)).toEqual([]);
      const bytes = encodeFilter(program);
      for (const request of requests) {
        const expected = isAllowed(rules, request) ? 1 : 0;
        allowed += expected;
        if (runFilter(bytes, request) !== expected) expect.fail(JSON.stringify({ rules, request, expected }));
      }
    }
    expect(allowed, 'both answers occur').toBeGreaterThan(10_000);
    expect(allowed).toBeLessThan(requests.length * 500 - 10_000);
  });

  test('denies everything without rules', () => {
    expect(deviceFilter([])).toHaveLength(8);
    expect(runFilter(encodeFilter(deviceFilter([])), { type: 'c', major: 1, minor: 3, access: 2 })).toBe(0);
  });

  test('leaves out a rule for numbers that no device has', () => {
    const rules = [{ allow: true, access: allAccess, major: 2 ** 40 }];
    expect(deviceFilter(rules)).toEqual(deviceFilter([]));
  });
});

describe('the rules of a container', () => {
  const answer = (rules: OciDeviceRule[], type: 'b' | 'c', major: number, minor: number, access: number) =>
    isAllowed(deviceRules(rules), { type, major, minor, access });

  test('allow the standard devices and making nodes, whatever is denied', () => {
    for (const rules of [[], [{ allow: false, access: 'rwm' }]]) {
      for (const minor of [3, 5, 7, 8, 9]) expect(answer(rules, 'c', 1, minor, 7)).toBe(true);
      for (const [major, minor] of [
        [5, 0],
        [5, 2],
        [136, 0],
        [136, 77],
      ] as const)
        expect(answer(rules, 'c', major, minor, 7)).toBe(true);
      expect(answer(rules, 'b', 8, 0, 1), 'mknod').toBe(true);
      expect(answer(rules, 'b', 8, 0, 2), 'read of a disk').toBe(false);
      expect(answer(rules, 'c', 1, 1, 4), 'write to memory').toBe(false);
    }
  });

  test('take type, numbers and access as absent, -1 or given', () => {
    expect(answer([{ allow: true, access: 'r' }], 'b', 8, 0, 2)).toBe(true);
    expect(answer([{ allow: true, access: 'r' }], 'b', 8, 0, 6)).toBe(false);
    expect(answer([{ allow: true, type: 'b', major: 8, minor: -1 }], 'b', 8, 5, 7)).toBe(true);
    expect(answer([{ allow: true, type: 'a', major: 8, minor: 5, access: 'rw' }], 'c', 8, 5, 6)).toBe(true);
    expect(answer([{ allow: true, type: 'c', major: 8, minor: 5, access: 'rw' }], 'b', 8, 5, 6)).toBe(false);
  });

  test('are applied in their order', () => {
    const deny = { allow: false, access: 'rwm' };
    const allow = { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' };
    expect(answer([deny, allow], 'c', 10, 229, 6)).toBe(true);
    expect(answer([allow, deny], 'c', 10, 229, 6)).toBe(false);
  });
});

/** The kernel's devices controller (security/device_cgroup.c): what the writes make of a cgroup. */
class DevicesController {
  allowAll = true;
  readonly exceptions = new Map<string, Set<string>>();

  write(file: string, value: string): void {
    const [type = '', numbers = '', letters = ''] = value.split(' ');
    const allow = file === 'devices.allow';
    if (type === 'a') {
      this.allowAll = allow;
      this.exceptions.clear();
      return;
    }
    const key = `${type} ${numbers}`;
    const now = this.exceptions.get(key) ?? new Set();
    for (const letter of letters) allow === this.allowAll ? now.delete(letter) : now.add(letter);
    if (now.size === 0) this.exceptions.delete(key);
    else this.exceptions.set(key, now);
  }

  allows({ type, major, minor, access }: Request): boolean {
    const asked = [...'mrw'].filter((_, i) => (access & (1 << i)) !== 0);
    const matching = [...this.exceptions].filter(([key]) => {
      const [t, a, b] = key.split(/[ :]/);
      return t === type && (a === '*' || a === `${major}`) && (b === '*' || b === `${minor}`);
    });
    return this.allowAll
      ? !matching.some(([, letters]) => asked.some((letter) => letters.has(letter)))
      : matching.some(([, letters]) => asked.every((letter) => letters.has(letter)));
  }

  list(): string {
    if (this.allowAll) return 'a *:* rwm\n';
    return [...this.exceptions].map(([key, letters]) => `${key} ${[...letters].join('')}\n`).join('');
  }
}

const isList = (list: ReturnType<typeof deviceList>): list is DeviceList => 'exceptions' in list;

describe('the lists of v1', () => {
  test('never allow more than the rules, and no less for one kind of access; through any update', () => {
    const random = generator(7);
    let expressed = 0;
    let controller = new DevicesController();
    for (let round = 0; round < 2000; round++) {
      const rules = randomRules(random);
      const list = deviceList(rules);
      if (!isList(list)) continue;
      expressed++;
      if (round % 10 === 0) controller = new DevicesController();
      for (const { file, value } of deviceWrites(parseDeviceList(controller.list()), list))
        controller.write(file, value);
      for (const request of requests) {
        const wanted = isAllowed(rules, request);
        const single = [1, 2, 4].includes(request.access);
        const now = controller.allows(request);
        if ((now && !wanted) || (single && now !== wanted))
          expect.fail(JSON.stringify({ rules, request, wanted, now }));
      }
    }
    expect(expressed).toBeGreaterThan(500);
  });

  test('cannot take one device out of many, and say which rule asks for that', () => {
    const rules = deviceRules([
      { allow: false, access: 'rwm' },
      { allow: true, type: 'c', major: 10, access: 'rw' },
      { allow: false, type: 'c', major: 10, minor: 229, access: 'w' },
    ]);
    expect(deviceList(rules)).toEqual({ rule: 2, reason: 'cgroup v1 cannot take c 10:229 out of c 10:*' });
  });

  test('leave a standard device out that cannot be expressed', () => {
    const rules = deviceRules([
      { allow: true, access: 'rwm' },
      { allow: false, type: 'c', major: 1, access: 'w' },
    ]);
    const list = deviceList(rules);
    expect(isList(list) && list.allowAll && [...list.exceptions]).toEqual([['c 1:*', 4]]);
  });

  test('change without a moment in which something is denied that stays allowed', () => {
    const lines = (from: OciDeviceRule[], to: OciDeviceRule[]) => {
      const [a, b] = [deviceList(deviceRules(from)), deviceList(deviceRules(to))];
      return isList(a) && isList(b) ? deviceWrites(a, b).map(({ file, value }) => `${file} ${value}`) : [];
    };
    const fuse = { allow: true, type: 'c', major: 10, minor: 229, access: 'rw' };
    expect(lines([], [fuse])).toEqual(['devices.allow c 10:229 rw']);
    expect(lines([fuse], [{ ...fuse, access: 'rm' }])).toEqual(['devices.allow c 10:229 m', 'devices.deny c 10:229 w']);
    expect(lines([fuse], [])).toEqual(['devices.deny c 10:229 rw']);
    expect(lines([fuse], [fuse])).toEqual([]);
    expect(lines([{ allow: true, access: 'rwm' }], [])[0], 'from "all but" there is only a fresh start').toBe(
      'devices.deny a',
    );
  });
});
