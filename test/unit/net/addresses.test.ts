import { describe, expect, test } from 'vitest';
import {
  chooseAddress,
  chooseMac,
  chooseSubnet,
  formatAddress,
  formatSubnet,
  gatewayOf,
  overlaps,
  parseAddress,
  parseRoutes,
  parseSubnet,
  type Subnet,
} from '../../../src/net/addresses.ts';
import { random, seeds } from '../plan/random.ts';

describe('addresses and subnets', () => {
  test('are read and written', () => {
    expect([0, 0x0a4d0102, 0xffffffff].map(formatAddress)).toEqual(['0.0.0.0', '10.77.1.2', '255.255.255.255']);
    for (const text of ['0.0.0.0', '10.77.1.2', '192.168.255.1', '255.255.255.255'])
      expect(formatAddress(parseAddress(text))).toBe(text);
    expect(formatSubnet(parseSubnet('10.77.1.99/24'))).toBe('10.77.1.0/24');
    expect(formatSubnet(parseSubnet('1.2.3.4/0'))).toBe('0.0.0.0/0');
    expect(formatSubnet(parseSubnet('1.2.3.4/32'))).toBe('1.2.3.4/32');
    expect(gatewayOf(parseSubnet('10.77.1.0/24'))).toBe('10.77.1.1');
  });

  test.each([
    '',
    '1.2.3',
    '1.2.3.4.5',
    '256.1.1.1',
    '-1.2.3.4',
    'a.b.c.d',
    '1.2.3.4/24',
    '1.2..4',
    '1.2.3.',
    '0x10.1.1.1',
    '1e1.0.0.0',
    ' 1.2.3.4',
  ])('%j is no address', (text) => {
    expect(() => parseAddress(text)).toThrow(expect.objectContaining({ code: 'TSV_SUBNET' }));
  });

  test.each(['', '10.0.0.0', '10.0.0.0/', '10.0.0.0/33', '10.0.0.0/-1', '10.0.0.0/x', '10.0.0.0/1.5'])(
    '%j is no subnet',
    (text) => {
      expect(() => parseSubnet(text)).toThrow(expect.objectContaining({ code: 'TSV_SUBNET' }));
    },
  );

  test('overlap when, and only when, an address is in both', () => {
    for (const seed of seeds(300)) {
      const { below } = random(seed);
      const subnet = (): Subnet => parseSubnet(`10.0.0.${below(256)}/${26 + below(7)}`);
      const [a, b] = [subnet(), subnet()];
      const members = (of: Subnet) => Array.from({ length: 2 ** (32 - of.prefix) }, (_, i) => of.base + i);
      const shared = members(a).some((address) => members(b).includes(address));
      expect([overlaps(a, b), overlaps(b, a)], `seed ${seed}: ${formatSubnet(a)} ${formatSubnet(b)}`).toEqual([
        shared,
        shared,
      ]);
    }
  });
});

describe('a chosen subnet', () => {
  test('never overlaps what is taken, is a /24 of 10.64.0.0/10, and is the same for the same key', () => {
    for (const seed of seeds(50)) {
      const { below } = random(seed);
      const taken: Subnet[] = [];
      for (let i = 0; i < 20; i++) {
        const chosen = chooseSubnet(`key-${below(5)}`, taken);
        expect(taken.filter((other) => overlaps(chosen, other)).map(formatSubnet), `seed ${seed}`).toEqual([]);
        expect(overlaps(chosen, parseSubnet('10.64.0.0/10'))).toBe(true);
        expect(chosen.prefix).toBe(24);
        expect(chooseSubnet('key', taken)).toEqual(chooseSubnet('key', taken));
        taken.push(chosen, parseSubnet(`10.${64 + below(64)}.${below(256)}.0/${17 + below(11)}`));
        if (below(3) === 0) taken.pop();
      }
    }
  });

  test('is found although only one is left, and missed by name when none is', () => {
    // All of 10.64.0.0/10 but 10.99.7.0/24, as the two halves beside it at every prefix length.
    const left = parseSubnet('10.99.7.0/24');
    const others = Array.from(
      { length: 14 },
      (_, i): Subnet => ({
        base: parseSubnet(`${formatAddress((left.base ^ (2 ** (8 + i))) >>> 0)}/${24 - i}`).base,
        prefix: 24 - i,
      }),
    );
    expect(formatSubnet(chooseSubnet('any', others))).toBe('10.99.7.0/24');
    expect(() => chooseSubnet('any', [...others, left])).toThrow(
      expect.objectContaining({ code: 'TSV_SUBNET', hint: expect.stringContaining('subnet') }),
    );
  });
});

describe('a chosen address', () => {
  test('is inside the subnet, is neither its first, its gateway nor its last, and nobody has it', () => {
    for (const seed of seeds(100)) {
      const { below } = random(seed);
      const subnet = parseSubnet(`10.${below(256)}.${below(256)}.${below(256)}/${24 + below(6)}`);
      const taken = new Set<string>();
      const hosts = 2 ** (32 - subnet.prefix) - 3;
      for (let i = 0; i < hosts; i++) {
        const address = chooseAddress(subnet, taken);
        const offset = parseAddress(address) - subnet.base;
        expect(
          taken.has(address) || offset < 2 || offset > hosts + 1,
          `seed ${seed}: ${address} of ${formatSubnet(subnet)}`,
        ).toBe(false);
        taken.add(address);
      }
      expect(() => chooseAddress(subnet, taken)).toThrow('no free address');
    }
  });

  test('is the lowest that is free', () => {
    expect(chooseAddress(parseSubnet('10.1.1.0/24'), new Set(['10.1.1.2', '10.1.1.3', '10.1.1.5']))).toBe('10.1.1.4');
  });
});

test('MAC addresses are of one station, locally administered, stable, and distinct', () => {
  const keys = Array.from({ length: 2000 }, (_, i) => `id/web-${i}/${i % 3}`);
  const chosen = keys.map(chooseMac);
  for (const mac of chosen) expect(mac).toMatch(/^02(:[0-9a-f]{2}){5}$/);
  expect(new Set(chosen).size).toBe(keys.length);
  expect(chooseMac('id/web/0')).toBe(chooseMac('id/web/0'));
});

test('the routes of a host are read from /proc/net/route, without the default route', () => {
  const text = `Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT
eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0
eth0\t0002A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0
tun0\t0000400A\t00000000\t0001\t0\t0\t0\t0000C0FF\t0\t0\t0
tun0\t01020304\t00000000\t0005\t0\t0\t0\tFFFFFFFF\t0\t0\t0
`;
  expect(parseRoutes(text).map(formatSubnet)).toEqual(['192.168.2.0/24', '10.64.0.0/10', '4.3.2.1/32']);
  expect(parseRoutes('Iface\tDestination\n')).toEqual([]);
});
