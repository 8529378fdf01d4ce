import { execFileSync } from 'node:child_process';
import { describe, expect, test } from 'vitest';
import type { MachineAddress, NetworkState } from '../../../src/model/state.ts';
import {
  containerAddressesScript,
  containerLinksScript,
  dhcpHostsFile,
  dnsmasqConfig,
  hostDevice,
  hostsFile,
  inNamespaceOf,
  type Named,
  networksScript,
  removeDevicesScript,
  tapsScript,
} from '../../../src/net/scripts.ts';

/* The scripts as a whole are in *.txt beside this file; here is what must hold in them. */

const network = (name: string, mode: 'nat' | 'isolated', third: number): NetworkState => ({
  spec: { name, mode },
  subnet: `10.77.${third}.0/24`,
  gateway: `10.77.${third}.1`,
  bridge: `br-${name}`,
});
const [nat, isolated, second] = [
  network('default', 'nat', 1),
  network('backend', 'isolated', 2),
  network('office', 'nat', 3),
];
const address = (of: NetworkState, last: number, index: number): MachineAddress => ({
  network: of.spec.name,
  address: of.gateway.replace(/1$/, String(last)),
  mac: `02:00:00:00:0${index}:${last.toString(16).padStart(2, '0')}`,
  device: `eth${index}`,
});

describe('the networks of a sandbox', () => {
  test.each([
    ['one-nat', [nat], true],
    ['one-isolated', [isolated], true],
    ['several', [nat, isolated, second], false],
    ['none', [], false],
  ] as const)('with %s are made by this script', async (name, networks, fresh) => {
    await expect(networksScript(networks, { fresh })).toMatchFileSnapshot(`networks-${name}.txt`);
  });

  test('forward nothing but what goes from a nat network to the way out', () => {
    const accepted = (networks: NetworkState[]) =>
      /chain forward \{([^}]*\{[^}]*\}[^}]*|[^}]*)\}/
        .exec(networksScript(networks, { fresh: false }))?.[1]
        ?.split('\n')
        .map((line) => line.trim())
        .filter(Boolean);
    expect(accepted([nat, isolated, second])).toEqual([
      'type filter hook forward priority 0; policy drop;',
      'ct state established,related accept',
      'iifname { "br-default", "br-office" } oifname "uplink" accept',
    ]);
    expect(accepted([isolated])).toEqual([
      'type filter hook forward priority 0; policy drop;',
      'ct state established,related accept',
    ]);
  });

  test('let machines ask for names, addresses and an echo, and nothing else', () => {
    const script = networksScript([isolated], { fresh: false });
    const input = script.slice(script.indexOf('chain input'), script.indexOf('chain postrouting'));
    expect(input.match(/.*accept$/gm)?.map((line) => line.trim())).toEqual([
      'iifname "lo" accept',
      'ct state established,related accept',
      'icmp type echo-request accept',
      'iifname { "br-backend" } meta l4proto { tcp, udp } th dport 53 accept',
      'iifname { "br-backend" } udp dport 67 accept',
    ]);
    expect(input).toContain('policy drop');
  });

  test('replace their rules as a whole, in one step', () => {
    const script = networksScript([nat], { fresh: false });
    expect(script.match(/nft -f -/g)).toHaveLength(1);
    expect(script).toContain('table inet tsv\ndelete table inet tsv\ntable inet tsv {');
  });
});

describe("a container's cables", () => {
  const addresses = [address(nat, 2, 0), address(isolated, 2, 1)];

  test('are made in the sandbox in place of those of an earlier run, the far ends inside the container', () => {
    const [first, second] = [hostDevice('c', 'web', 0), hostDevice('c', 'web', 1)];
    expect(
      containerLinksScript('web', 4711, addresses, { default: 'br-default', backend: 'br-backend' }),
    ).toBe(`[ ! -e /proc/sys/net/ipv4/conf/${first} ] || ip link del ${first} 2>/dev/null || :
[ ! -e /proc/sys/net/ipv4/conf/${second} ] || ip link del ${second} 2>/dev/null || :
ip -batch - <<'END'
link add ${first} type veth peer name eth0 address 02:00:00:00:00:02 netns 4711
link set ${first} master br-default up
link add ${second} type veth peer name eth1 address 02:00:00:00:01:02 netns 4711
link set ${second} master br-backend up
END
`);
  });

  const detailed = (...of: [NetworkState, MachineAddress][]) =>
    of.map(([{ gateway, spec }, own]) => ({ ...own, prefix: 24, gateway, nat: spec.mode === 'nat' }));
  const commands = (text: string) =>
    text
      .slice(text.indexOf('END') + 5)
      .split('\n')
      .slice(0, -2);

  test('get their addresses, and a default route through the first nat network', () => {
    expect(
      commands(
        containerAddressesScript(
          detailed([isolated, address(isolated, 2, 0)], [second, address(second, 3, 1)], [nat, address(nat, 2, 2)]),
        ),
      ),
    ).toEqual([
      'link set lo up',
      'addr add 10.77.2.2/24 brd + dev eth0',
      'link set eth0 up',
      'addr add 10.77.3.3/24 brd + dev eth1',
      'link set eth1 up',
      'addr add 10.77.1.2/24 brd + dev eth2',
      'link set eth2 up',
      'route add default via 10.77.3.1',
    ]);
  });

  test('have no way out when all networks are isolated, and only lo when there is none', () => {
    expect(containerAddressesScript(detailed([isolated, address(isolated, 2, 0)]))).not.toContain('default via');
    expect(commands(containerAddressesScript([]))).toEqual(['link set lo up']);
  });

  test('are set up inside by the same script: what is said there stays whole', () => {
    const inside = containerAddressesScript([]);
    const echoed = inNamespaceOf(4711, inside).replace(/^nsenter .* sh -es/, 'cat');
    expect(execFileSync('sh', ['-e'], { input: `echo outside\n${echoed}`, encoding: 'utf8' })).toBe(
      `outside\n${inside}`,
    );
    expect(inNamespaceOf(4711, inside)).toMatch(/^nsenter --net=\/proc\/4711\/ns\/net -- sh -es <</);
  });
});

test("a VM's taps are made once, set up each time, and removed without complaint", () => {
  expect(tapsScript([{ device: 'tabc-0', bridge: 'br-default' }])).toBe(
    'ip link show tabc-0 >/dev/null 2>&1 || ip tuntap add dev tabc-0 mode tap\nip link set tabc-0 master br-default up\n',
  );
  expect(removeDevicesScript(['a', 'b'])).toBe('ip link del a 2>/dev/null || :\nip link del b 2>/dev/null || :\n');
});

test('interface names are short enough for the kernel, stable, and distinct', () => {
  const names = ['c', 't']
    .flatMap((kind) =>
      Array.from({ length: 500 }, (_, i) =>
        [0, 1, 9].map((index) => hostDevice(kind as 'c' | 't', `${'a-long-machine-name-'.repeat(3)}${i}`, index)),
      ),
    )
    .flat();
  for (const name of names) expect(name).toMatch(/^[ct][0-9a-f]{10}-\d$/);
  expect(Math.max(...names.map((name) => Buffer.byteLength(name)))).toBeLessThanOrEqual(15);
  expect(Buffer.byteLength(hostDevice('c', 'web', 99))).toBeLessThanOrEqual(15);
  expect(new Set(names).size).toBe(names.length);
  expect(hostDevice('c', 'web', 0)).toBe(hostDevice('c', 'web', 0));
});

describe('the name server', () => {
  const files = {
    hosts: '/run/d/hosts',
    dhcpHosts: '/run/d/dhcp',
    resolv: '/run/d/resolv.conf',
    pid: '/run/d/pid',
    log: '/run/d/log',
  };

  test('has this configuration', async () => {
    await expect(dnsmasqConfig({ networks: [nat, isolated], files, domain: 'shop' })).toMatchFileSnapshot(
      'dnsmasq.txt',
    );
  });

  test('S50 listens on the bridges of its project only', () => {
    const lines = dnsmasqConfig({ networks: [nat, isolated], files, domain: 'shop' }).split('\n');
    expect(lines.filter((line) => /interface/.test(line))).toEqual([
      'bind-interfaces',
      'except-interface=lo',
      'interface=br-default',
      'interface=br-backend',
    ]);
    expect(lines).toContain('local=/shop/');
  });

  test('gives an isolated network a name server and no router', () => {
    const lines = dnsmasqConfig({ networks: [nat, isolated], files, domain: 'shop' }).split('\n');
    expect(lines.filter((line) => line.includes('option:router'))).toEqual([
      'dhcp-option=tag:br-default,option:router,10.77.1.1',
      'dhcp-option=tag:br-backend,option:router',
    ]);
    expect(lines).toContain('dhcp-option=tag:br-backend,option:dns-server,10.77.2.1');
  });
});

describe('names', () => {
  const machine = (name: string, group: string, hostname: string, ...addresses: MachineAddress[]): Named => ({
    name,
    group,
    hostname,
    addresses,
  });
  const machines = [
    machine('web-1', 'web', 'web-1', address(nat, 2, 0)),
    machine('web-2', 'web', 'web-2', address(nat, 3, 0)),
    machine('db', 'db', 'database', address(nat, 4, 0), address(isolated, 4, 1)),
    machine('lonely', 'lonely', 'lonely'),
  ];

  test('are those of the machine, its hostname and its group, each with and without the project, once', () => {
    expect(hostsFile(machines, 'shop')).toBe(
      `10.77.1.2 web-1 web-1.shop web web.shop
10.77.1.3 web-2 web-2.shop web web.shop
10.77.1.4 db db.shop database database.shop
10.77.2.4 db db.shop database database.shop
`,
    );
    expect(hostsFile([], 'shop')).toBe('');
  });

  test('come with the address by DHCP', () => {
    expect(dhcpHostsFile(machines.slice(2))).toBe(
      '02:00:00:00:00:04,10.77.1.4,database,infinite\n02:00:00:00:01:04,10.77.2.4,database,infinite\n',
    );
  });
});
