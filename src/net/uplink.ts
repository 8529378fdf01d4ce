import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { isIPv4 } from 'node:net';
import { TsvError } from '../model/errors.ts';
import { formatAddress, overlaps, parseAddress, parseSubnet, type Subnet } from './addresses.ts';
import { uplinkDevice } from './scripts.ts';

/*
 * The way out of a sandbox. As an ordinary user a user-mode network stack (slirp4netns) sends the packets as its own;
 * as root a veth pair and a masquerade rule on the host do it faster.
 */

/** Names on the host, all that a project ever adds there as root. */
export const hostNames = (projectId: string): { device: string; table: string } => {
  const id = createHash('sha256').update(projectId).digest('hex').slice(0, 8);
  return { device: `tsv-${id}`, table: `tsv_${id}` };
};

/** Rules that keep the host from routing for others when it only forwards because of tsv. */
export const forwardingTable = 'tsv_forwarding';

/** Shared address space (RFC 6598), and where a host uses that itself, the range for benchmarks (RFC 2544). */
const uplinkRanges: readonly Subnet[] = [parseSubnet('100.64.0.0/10'), parseSubnet('198.18.0.0/15')];

/** Two addresses for the veth pair, the same for the same project where they are free. @throws TSV_SUBNET */
export function chooseUplinkPair(projectId: string, taken: readonly Subnet[]): { host: string; sandbox: string } {
  for (const range of uplinkRanges) {
    // Only what touches the range matters: the search below looks at it again and again.
    const near = taken.filter((other) => overlaps(range, other));
    const count = 2 ** (30 - range.prefix);
    const start = createHash('sha256').update(projectId).digest().readUInt32BE(8) % count;
    if (near.some((other) => other.prefix <= range.prefix)) continue;
    for (let i = 0; i < count; i++) {
      const subnet = { base: range.base + ((start + i) % count) * 4, prefix: 30 };
      if (!near.some((other) => overlaps(subnet, other)))
        return { host: formatAddress(subnet.base + 1), sandbox: formatAddress(subnet.base + 2) };
    }
  }
  throw new TsvError('TSV_SUBNET', 'no two addresses are free for the way out', {
    details: ["the host's routes cover 100.64.0.0/10 and 198.18.0.0/15"],
    hint: 'tsv up as an ordinary user needs none',
  });
}

/** Forwarding is all projects': who is the first and who the last is decided by one at a time. Locked is what it is about. */
const oneAtATime = 'exec 9</proc/sys/net/ipv4/ip_forward && flock 9';

/** On the host, as root. */
export function hostUplinkScript(
  projectId: string,
  pair: { host: string; sandbox: string },
  holderPid: number,
): string {
  const { device, table } = hostNames(projectId);
  return [
    oneAtATime,
    `ip link del ${device} 2>/dev/null || :`,
    "ip -batch - <<'END'",
    `link add ${device} type veth peer name ${uplinkDevice} netns ${holderPid}`,
    `addr add ${pair.host}/30 dev ${device}`,
    `link set ${device} up`,
    'END',
    `echo 1 > /proc/sys/net/ipv6/conf/${device}/disable_ipv6 2>/dev/null || :`,
    'if [ "$(cat /proc/sys/net/ipv4/ip_forward)" = 0 ]; then',
    "nft -f - <<'END'",
    `table inet ${forwardingTable} {`,
    '  chain forward { type filter hook forward priority 10; policy drop; iifname "tsv-*" accept; oifname "tsv-*" ct state established,related accept; }',
    '}',
    'END',
    'echo 1 > /proc/sys/net/ipv4/ip_forward',
    'fi',
    "nft -f - <<'END'",
    `table ip ${table}`,
    `delete table ip ${table}`,
    `table ip ${table} {`,
    `  chain postrouting { type nat hook postrouting priority 100; ip saddr ${pair.sandbox} oifname != "${device}" masquerade; }`,
    `  chain forward { type filter hook forward priority 0; oifname "${device}" ct state new drop; }`,
    '}',
    'END',
    '',
  ].join('\n');
}

/** In the sandbox, as its root. */
export const sandboxUplinkScript = (pair: { host: string; sandbox: string }): string =>
  `ip -batch - <<'END'\naddr add ${pair.sandbox}/30 dev ${uplinkDevice}\nlink set ${uplinkDevice} up\nroute add default via ${pair.host}\nEND\n`;

/** Undoes {@link hostUplinkScript}; when it was the last project's, forwarding is off again if tsv had switched it on. */
export function removeHostUplinkScript(projectId: string): string {
  const { device, table } = hostNames(projectId);
  return [
    oneAtATime,
    // Both wait for the kernel (RCU, some 15 ms each), so they do it together.
    `{ ip link del ${device} 2>/dev/null || :; } &`,
    `nft delete table ip ${table} 2>/dev/null || :`,
    'wait',
    `if ! ip -o link show | grep -q ': tsv-' && nft list table inet ${forwardingTable} >/dev/null 2>&1; then`,
    'echo 0 > /proc/sys/net/ipv4/ip_forward',
    `nft delete table inet ${forwardingTable}`,
    'fi',
    '',
  ].join('\n');
}

/**
 * Name servers for the sandbox's dnsmasq. A host whose resolv.conf names only itself (systemd-resolved) keeps the real
 * ones in another file; 127.x means the sandbox's own loopback once inside, so those are left out.
 */
export function hostNameServers(read: (file: string) => string = (file) => readFileSync(file, 'utf8')): string[] {
  for (const file of ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf']) {
    let text: string;
    try {
      text = read(file);
    } catch {
      continue; // that file is not there on this host
    }
    const servers = [...text.matchAll(/^nameserver\s+(\S+)/gm)]
      .map((match) => match[1] ?? '')
      .filter((server) => isIPv4(server) && !server.startsWith('127.'));
    if (servers.length > 0) return servers;
  }
  return [];
}

/** Subnets that slirp4netns may use for itself, in the order of preference: none is ever routed by its owners (RFC 5737). */
export function chooseSlirpSubnet(taken: readonly Subnet[]): { cidr: string; nameServer: string } {
  const candidates = ['198.51.100.0', '203.0.113.0', '192.0.2.0', '10.0.2.0'];
  const free =
    candidates.find((base) => !taken.some((other) => overlaps({ base: parseAddress(base), prefix: 24 }, other))) ??
    '10.0.2.0';
  return { cidr: `${free}/24`, nameServer: formatAddress(parseAddress(free) + 3) };
}
