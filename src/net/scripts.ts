import { createHash } from 'node:crypto';
import type { MachineAddress, NetworkState } from '../model/state.ts';

/*
 * What is run inside the sandbox's network namespace, as text for `sh -e`. One shell per change: ip(8) in batch mode
 * and nft(8) from standard input change everything at once.
 */

const heredoc = (command: string, lines: readonly string[]): string => `${command} <<'END'\n${lines.join('\n')}\nEND\n`;
const ipBatch = (lines: readonly string[]): string => heredoc('ip -batch -', lines);

/** Interface of the way out, in every sandbox. */
export const uplinkDevice = 'uplink';

/** Bridges, and the rules between them. Run again after each change of the networks. */
export function networksScript(networks: readonly NetworkState[], options: { fresh: boolean }): string {
  const natBridges = networks.filter((network) => network.spec.mode === 'nat').map((network) => `"${network.bridge}"`);
  const bridges = networks.map((network) => `"${network.bridge}"`);
  return [
    ...(options.fresh
      ? [
          // Without IPv6 no interface waits for duplicate address detection; no network of ours offers IPv6.
          'for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null || :\n',
          'echo 1 > /proc/sys/net/ipv4/ip_forward\n',
          // Where the module br_netfilter is loaded (docker does that), packets within a bridge would meet the forward chain.
          'for f in iptables ip6tables arptables; do echo 0 > /proc/sys/net/bridge/bridge-nf-call-$f; done 2>/dev/null || :\n',
          ipBatch(['link set lo up']),
        ]
      : []),
    ...networks.map(
      (network) =>
        `ip link show ${network.bridge} >/dev/null 2>&1 || ` +
        ipBatch([
          `link add ${network.bridge} type bridge forward_delay 0 stp_state 0`,
          `addr add ${network.gateway}/${prefixOf(network)} dev ${network.bridge}`,
          `link set ${network.bridge} up`,
        ]) +
        // A machine that boots is asked for ten times a second, not once (arp(7)): who waits for it has no event to go by.
        `echo 100 > /proc/sys/net/ipv4/neigh/${network.bridge}/retrans_time_ms 2>/dev/null || :\n`,
    ),
    heredoc('nft -f -', [
      'table inet tsv',
      'delete table inet tsv',
      'table inet tsv {',
      '  chain forward {',
      '    type filter hook forward priority 0; policy drop;',
      '    ct state established,related accept',
      ...(natBridges.length === 0 ? [] : [`    iifname { ${natBridges.join(', ')} } oifname "${uplinkDevice}" accept`]),
      '  }',
      '  chain input {',
      '    type filter hook input priority 0; policy drop;',
      '    iifname "lo" accept',
      '    ct state established,related accept',
      '    icmp type echo-request accept',
      ...(bridges.length === 0
        ? []
        : [
            `    iifname { ${bridges.join(', ')} } meta l4proto { tcp, udp } th dport 53 accept`,
            `    iifname { ${bridges.join(', ')} } udp dport 67 accept`,
          ]),
      '  }',
      '  chain postrouting {',
      '    type nat hook postrouting priority 100;',
      `    oifname "${uplinkDevice}" masquerade`,
      '  }',
      '}',
    ]),
  ].join('');
}

export const prefixOf = (network: Pick<NetworkState, 'subnet'>): number => Number(network.subnet.split('/')[1]);

/** Removes a bridge; the interfaces on it go with their machines. */
export const removeNetworkScript = (bridge: string): string => `ip link del ${bridge} 2>/dev/null || :\n`;

/** A name for the sandbox's end of a machine's cable: at most 15 bytes, the same for the same machine and position. */
export const hostDevice = (kind: 'c' | 't', machine: string, index: number): string =>
  `${kind}${createHash('sha256').update(machine).digest('hex').slice(0, 10)}-${index}`;

/**
 * In the sandbox: one veth pair per attachment, the far end made directly inside the container's namespace. Cables of
 * an earlier run go with its namespace, which the kernel takes down in its own time: one that is still there is removed.
 * Looked for where it costs no process: /proc/sys/net is that of the network namespace of whoever looks.
 */
export function containerLinksScript(
  machine: string,
  pid: number,
  addresses: readonly MachineAddress[],
  bridges: Readonly<Record<string, string>>,
): string {
  const devices = addresses.map((_, index) => hostDevice('c', machine, index));
  const leftovers = devices.map(
    (device) => `[ ! -e /proc/sys/net/ipv4/conf/${device} ] || ip link del ${device} 2>/dev/null || :\n`,
  );
  const links = ipBatch(
    addresses.flatMap((address, index) => {
      const device = devices[index];
      return [
        `link add ${device} type veth peer name ${address.device} address ${address.mac} netns ${pid}`,
        `link set ${device} master ${bridges[address.network]} up`,
      ];
    }),
  );
  return leftovers.join('') + links;
}

/** Does what `script` says in the network namespace of `pid`. */
export const inNamespaceOf = (pid: number, script: string): string =>
  `nsenter --net=/proc/${pid}/ns/net -- sh -es <<'INSIDE'\n${script}INSIDE\n`;

/** In the container's network namespace: addresses, and the default route through the first nat network. */
export function containerAddressesScript(
  addresses: readonly (MachineAddress & { readonly prefix: number; readonly gateway: string; readonly nat: boolean })[],
): string {
  const out = addresses.find((address) => address.nat);
  return [
    'for f in all default; do echo 1 > /proc/sys/net/ipv6/conf/$f/disable_ipv6; done 2>/dev/null || :\n',
    // Ports below 1024 and ping need no capability inside (ip_unprivileged_port_start, icmp(7)).
    // Only groups that the writer's user namespace knows can be named: an ordinary user's has fewer.
    'for last in 2147483647 65535; do echo "0 $last" > /proc/sys/net/ipv4/ping_group_range && break; done 2>/dev/null || :\n',
    ipBatch([
      'link set lo up',
      ...addresses.flatMap((address) => [
        `addr add ${address.address}/${address.prefix} brd + dev ${address.device}`,
        `link set ${address.device} up`,
      ]),
      ...(out === undefined ? [] : [`route add default via ${out.gateway}`]),
    ]),
  ].join('');
}

/** In the sandbox: one tap per attachment of a VM, before QEMU starts. Taps of an earlier run are kept. */
export function tapsScript(taps: readonly { device: string; bridge: string }[]): string {
  return taps
    .map(
      ({ device, bridge }) =>
        `ip link show ${device} >/dev/null 2>&1 || ip tuntap add dev ${device} mode tap\nip link set ${device} master ${bridge} up\n`,
    )
    .join('');
}

export const removeDevicesScript = (devices: readonly string[]): string =>
  devices.map((device) => `ip link del ${device} 2>/dev/null || :\n`).join('');

/** A name server for all machines. Reads its names again on SIGHUP. */
export function dnsmasqConfig(options: {
  readonly networks: readonly NetworkState[];
  readonly files: {
    readonly hosts: string;
    readonly dhcpHosts: string;
    readonly resolv: string;
    readonly pid: string;
    readonly log: string;
  };
  readonly domain: string;
}): string {
  return [
    // No keep-in-foreground: the program goes to the background when, and only when, it serves.
    `pid-file=${options.files.pid}`,
    'user=root',
    'group=root',
    'no-hosts',
    'bind-interfaces',
    'except-interface=lo',
    ...options.networks.map((network) => `interface=${network.bridge}`),
    `addn-hosts=${options.files.hosts}`,
    `resolv-file=${options.files.resolv}`,
    `domain=${options.domain}`,
    `local=/${options.domain}/`,
    'domain-needed',
    'bogus-priv',
    'localise-queries',
    'no-negcache',
    'local-ttl=0',
    `dhcp-hostsfile=${options.files.dhcpHosts}`,
    'dhcp-authoritative',
    'dhcp-no-override',
    'no-ping',
    'leasefile-ro',
    `log-facility=${options.files.log}`,
    ...options.networks.flatMap((network) => [
      `dhcp-range=set:${network.bridge},${network.subnet.split('/')[0]},static,infinite`,
      // An isolated network has a name server, and no way out.
      network.spec.mode === 'nat'
        ? `dhcp-option=tag:${network.bridge},option:router,${network.gateway}`
        : `dhcp-option=tag:${network.bridge},option:router`,
      `dhcp-option=tag:${network.bridge},option:dns-server,${network.gateway}`,
    ]),
    '',
  ].join('\n');
}

export interface Named {
  readonly name: string;
  readonly group: string;
  readonly hostname: string;
  readonly addresses: readonly MachineAddress[];
}

/** hosts(5): every machine by name, hostname, name.project, and its replica group by the group's name. */
export function hostsFile(machines: readonly Named[], domain: string): string {
  return machines
    .flatMap((machine) =>
      machine.addresses.map((address) => {
        const names = new Set(
          [machine.name, machine.hostname, machine.group].flatMap((name) => [name, `${name}.${domain}`]),
        );
        return `${address.address} ${[...names].join(' ')}\n`;
      }),
    )
    .join('');
}

export function dhcpHostsFile(machines: readonly Named[]): string {
  return machines
    .flatMap((machine) =>
      machine.addresses.map((address) => `${address.mac},${address.address},${machine.hostname},infinite\n`),
    )
    .join('');
}
