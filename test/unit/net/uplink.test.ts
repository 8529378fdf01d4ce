import { describe, expect, test } from 'vitest';
import { overlaps, parseAddress, parseSubnet } from '../../../src/net/addresses.ts';
import {
  chooseSlirpSubnet,
  chooseUplinkPair,
  hostNameServers,
  hostNames,
  hostUplinkScript,
  removeHostUplinkScript,
  sandboxUplinkScript,
} from '../../../src/net/uplink.ts';
import { random, seeds } from '../plan/random.ts';

const pair = { host: '100.64.0.1', sandbox: '100.64.0.2' };

describe("root's way out", () => {
  test('is made on the host by this script', async () => {
    await expect(hostUplinkScript('project', pair, 4711)).toMatchFileSnapshot('uplink-host.txt');
  });

  test('is made in the sandbox by this one', () => {
    expect(sandboxUplinkScript(pair)).toBe(
      "ip -batch - <<'END'\naddr add 100.64.0.2/30 dev uplink\nlink set uplink up\nroute add default via 100.64.0.1\nEND\n",
    );
  });

  test('is removed by this one', async () => {
    await expect(removeHostUplinkScript('project')).toMatchFileSnapshot('uplink-remove.txt');
  });

  test('S48 forwards for its own project only, and lets no other network of the host in', () => {
    const script = hostUplinkScript('project', pair, 4711);
    const { device } = hostNames('project');
    expect(script).toContain(`oifname "${device}" ct state new drop`);
    expect(script).toContain(`ip saddr 100.64.0.2 oifname != "${device}" masquerade`);
    // Only when tsv itself switches forwarding on:
    expect(script.slice(script.indexOf('if ['), script.indexOf('\nfi'))).toContain(
      'policy drop; iifname "tsv-*" accept; oifname "tsv-*" ct state established,related accept;',
    );
    expect(script.slice(script.indexOf('\nfi'))).not.toContain('tsv_forwarding');
  });

  test('has names that are short enough for an interface, and a project of its own', () => {
    const ids = Array.from({ length: 500 }, (_, i) => `project-${i}`);
    const names = ids.map(hostNames);
    expect(new Set(names.map(({ device }) => device)).size).toBe(ids.length);
    for (const { device, table } of names) {
      expect(Buffer.byteLength(device)).toBeLessThanOrEqual(15);
      expect(table).toMatch(/^tsv_[0-9a-f]{8}$/);
    }
  });

  test('has two neighbouring addresses that are in nothing that is taken, the same for the same project', () => {
    for (const seed of seeds(50)) {
      const { below } = random(seed);
      const taken = Array.from({ length: 30 }, () =>
        parseSubnet(`100.${64 + below(64)}.${below(256)}.0/${16 + below(12)}`),
      );
      const chosen = chooseUplinkPair(`id-${seed}`, taken);
      expect(chooseUplinkPair(`id-${seed}`, taken)).toEqual(chosen);
      const [host, sandbox] = [parseAddress(chosen.host), parseAddress(chosen.sandbox)];
      expect([host % 4, sandbox - host]).toEqual([1, 1]);
      const own = parseSubnet(`${chosen.host}/30`);
      expect(overlaps(own, parseSubnet('100.64.0.0/10'))).toBe(true);
      expect(
        taken.some((other) => overlaps(own, other)),
        `seed ${seed}`,
      ).toBe(false);
    }
  });
});

test("root's way out avoids a host that routes all of 100.64.0.0/10 itself, or says that there is no subnet", () => {
  const taken = [parseSubnet('100.64.0.0/10')];
  let host: string;
  try {
    host = chooseUplinkPair('project', taken).host;
  } catch (error) {
    expect(error).toMatchObject({ code: 'TSV_SUBNET' });
    return;
  }
  expect(overlaps(parseSubnet(`${host}/30`), parseSubnet('100.64.0.0/10'))).toBe(false);
});

describe("the host's name servers", () => {
  const files = (content: Record<string, string>) => (file: string) => {
    const text = content[file];
    if (text === undefined) throw new Error('ENOENT');
    return text;
  };

  test('are those of resolv.conf, in their order', () => {
    expect(
      hostNameServers(
        files({ '/etc/resolv.conf': '# nameserver 9.9.9.9\nsearch x\nnameserver 10.0.0.2\nnameserver\t10.0.0.3\n' }),
      ),
    ).toEqual(['10.0.0.2', '10.0.0.3']);
  });

  test('are the real ones behind systemd-resolved, which is loopback', () => {
    const both = {
      '/etc/resolv.conf': 'nameserver 127.0.0.53\noptions edns0',
      '/run/systemd/resolve/resolv.conf': 'nameserver 192.168.1.1\n',
    };
    expect(hostNameServers(files(both))).toEqual(['192.168.1.1']);
  });

  test('leave out loopback, IPv6 and what is no address', () => {
    expect(
      hostNameServers(
        files({
          '/etc/resolv.conf':
            'nameserver ::1\nnameserver fe80::1%eth0\nnameserver 127.0.0.1\nnameserver example.org\nnameserver 10.1.1.1',
        }),
      ),
    ).toEqual(['10.1.1.1']);
  });

  test('are none where there is no file', () => {
    expect(hostNameServers(files({}))).toEqual([]);
  });
});

test("a user's way out takes a subnet that nobody has, with its name server", () => {
  expect(chooseSlirpSubnet([])).toEqual({ cidr: '198.51.100.0/24', nameServer: '198.51.100.3' });
  expect(chooseSlirpSubnet([parseSubnet('198.51.100.128/25')]).cidr).toBe('203.0.113.0/24');
  expect(chooseSlirpSubnet(['198.51.100.0/24', '203.0.113.7/32', '192.0.0.0/16'].map(parseSubnet)).cidr).toBe(
    '10.0.2.0/24',
  );
});
