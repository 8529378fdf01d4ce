import type { Report } from './diagnostic.ts';
import type { MachineDraft } from './machines.ts';
import { blockText, defaultNetwork, type NetworkDraft } from './networks.ts';
import { didYouMean } from './suggest.ts';
import { formatIpv4, parseIpv4 } from './units.ts';

/** Names of the machines that a draft stands for: with `replicas`, `web-1`, `web-2`, … */
export function machineNames(draft: MachineDraft): readonly string[] {
  if (draft.replicas === undefined) return [draft.name];
  const count = Math.min(Math.max(Math.trunc(draft.replicas.value), 1), 100); // the schema's range, also where it is not kept
  return Array.from({ length: count }, (_, i) => `${draft.name}-${i + 1}`);
}

/** All checks that look at more than one machine or network. */
export function checkProject(
  machines: readonly MachineDraft[],
  networks: ReadonlyMap<string, NetworkDraft>,
  report: Report,
): void {
  checkNames(machines, report);
  checkReplicas(machines, report);
  checkAttachments(machines, networks, report);
  checkForwards(machines, report);
  checkDependencies(machines, report);
}

/** Names that mean something else inside every machine. */
const reservedNames = ['localhost'];

function checkNames(machines: readonly MachineDraft[], report: Report): void {
  const owners = new Map<string, MachineDraft>();
  for (const draft of machines) owners.set(draft.name, draft);
  for (const draft of machines) {
    if (reservedNames.includes(draft.name))
      report(draft.at, `the name \`${draft.name}\` means the machine itself, in every machine`);
    if (draft.replicas === undefined) continue;
    for (const name of machineNames(draft)) {
      const other = owners.get(name);
      if (other !== undefined && other !== draft)
        report(other.at, `the name \`${name}\` is also that of a replica of \`${draft.name}\``);
      owners.set(name, draft);
    }
    if (draft.name.length <= 63 && machineNames(draft).some((name) => name.length > 63)) {
      report(draft.at, `the names of the replicas of \`${draft.name}\` have more than 63 characters`);
    }
  }
}

/** What only one machine can have. */
function checkReplicas(machines: readonly MachineDraft[], report: Report): void {
  for (const draft of machines) {
    const count = machineNames(draft).length;
    if (count < 2) continue;
    const only = (what: string) => `${what} cannot be shared by the ${count} replicas of \`${draft.name}\``;
    if (draft.hostname !== undefined)
      report(draft.hostname.at, only('one host name'), 'leave it out: each is named like its machine');
    for (const { address } of draft.networks) {
      if (address !== undefined)
        report(address.at, only('one address'), 'leave the address out, or write the machines one by one');
    }
    for (const { value, at } of draft.forwards) {
      report(
        at,
        only(`port ${value.hostPort} of the host`),
        'forward to one machine that balances, or write the machines one by one',
      );
    }
  }
}

function checkAttachments(
  machines: readonly MachineDraft[],
  networks: ReadonlyMap<string, NetworkDraft>,
  report: Report,
): void {
  const users = new Map<string, number>();
  const owners = new Map<string, string>();
  /** `defaults.networks` is shared by machines: what is wrong with the entry itself is said once. */
  const seen = new Set<number>();
  for (const draft of machines) {
    for (const { network, address } of draft.networks) {
      const declared = networks.get(network.value);
      users.set(network.value, (users.get(network.value) ?? 0) + machineNames(draft).length);
      const fresh = !seen.has(network.at.start);
      seen.add(network.at.start);
      if (fresh && declared === undefined && network.value !== defaultNetwork) {
        report(
          network.at,
          `there is no network \`${network.value}\``,
          didYouMean(network.value, [...networks.keys(), defaultNetwork]) ?? `declare it under \`networks\``,
        );
      }
      if (address === undefined) continue;
      if (fresh) checkAddress(network.value, address, declared, report);
      const key = `${network.value} ${address.value}`;
      const owner = owners.get(key);
      if (owner !== undefined)
        report(address.at, `the address ${address.value} of \`${draft.name}\` is already that of \`${owner}\``);
      else owners.set(key, draft.name);
    }
  }
  for (const { name, subnet } of networks.values()) {
    if (subnet === undefined) continue;
    const room = subnet.value.last - subnet.value.first - 2; // without network address, gateway and broadcast address
    const wanted = users.get(name) ?? 0;
    if (wanted > room)
      report(
        subnet.at,
        `the subnet ${blockText(subnet.value)} has ${room} addresses for ${wanted} machines`,
        'take a larger one',
      );
  }
}

function checkAddress(
  network: string,
  address: { value: string; at: { start: number; end: number } },
  declared: NetworkDraft | undefined,
  report: Report,
): void {
  const value = parseIpv4(address.value);
  if (value === undefined) return;
  if (declared?.subnet === undefined) {
    const known = declared !== undefined || network === defaultNetwork;
    if (known)
      report(
        address.at,
        `a fixed address needs a \`subnet\` on network \`${network}\``,
        `networks: { ${network}: { subnet: … } }`,
      );
    return;
  }
  const { first, last } = declared.subnet.value;
  const range = `${formatIpv4(first + 2)} to ${formatIpv4(last - 1)} are free for machines`;
  if (value < first || value > last) {
    report(
      address.at,
      `${address.value} is outside ${blockText(declared.subnet.value)} of network \`${network}\``,
      range,
    );
  } else if (value === first)
    report(address.at, `${address.value} is the address of network \`${network}\` itself`, range);
  else if (value === first + 1) report(address.at, `${address.value} is the gateway of network \`${network}\``, range);
  else if (value === last)
    report(address.at, `${address.value} is the broadcast address of network \`${network}\``, range);
}

function checkForwards(machines: readonly MachineDraft[], report: Report): void {
  const taken = new Map<number, { address: string; machine: string }[]>();
  for (const draft of machines) {
    for (const { value, at } of draft.forwards) {
      const others = taken.get(value.hostPort) ?? [];
      const clash = others.find(
        ({ address }) => address === value.hostAddress || [address, value.hostAddress].includes('0.0.0.0'),
      );
      if (clash !== undefined) {
        const differs =
          clash.address === value.hostAddress ? '' : ` (${clash.address} and ${value.hostAddress} overlap)`;
        report(at, `port ${value.hostPort} of the host is already forwarded to \`${clash.machine}\`${differs}`);
      }
      taken.set(value.hostPort, [...others, { address: value.hostAddress, machine: draft.name }]);
    }
  }
}

function checkDependencies(machines: readonly MachineDraft[], report: Report): void {
  const groups = new Map(machines.map((draft) => [draft.name, draft]));
  for (const draft of machines) {
    for (const { group, condition } of draft.dependsOn) {
      const target = groups.get(group.value);
      if (target === undefined) {
        const owner = machines.find((other) => machineNames(other).includes(group.value));
        const hint =
          owner === undefined
            ? didYouMean(group.value, groups.keys())
            : `depend on \`${owner.name}\`, all of its replicas`;
        report(group.at, `there is no machine \`${group.value}\` to depend on`, hint);
      } else if (condition.value === 'healthy' && !canBeHealthy(target)) {
        report(
          condition.at,
          `\`${group.value}\` cannot become healthy: it has no \`healthcheck\``,
          target.common.oneshot === true
            ? `it is a one-shot machine: write \`${group.value}: completed\``
            : `give it one, or write \`${group.value}: started\``,
        );
      } else if (condition.value === 'completed' && target.common.oneshot !== true) {
        report(
          condition.at,
          `\`${group.value}\` is not meant to end, so nothing can wait for that`,
          `give it \`oneshot: true\`, or write \`${group.value}: started\``,
        );
      }
    }
  }
  reportCycles(machines, groups, report);
}

/** An image may have a health check of its own, which shows when it is there. */
const canBeHealthy = ({ common }: MachineDraft): boolean =>
  common.oneshot !== true && (common.healthcheck !== undefined || common.image !== undefined);

/** Depth-first; each edge that leads back closes one cycle. */
function reportCycles(
  machines: readonly MachineDraft[],
  groups: ReadonlyMap<string, MachineDraft>,
  report: Report,
): void {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (draft: MachineDraft): void => {
    path.push(draft.name);
    for (const { group } of draft.dependsOn) {
      const from = path.indexOf(group.value);
      const target = groups.get(group.value);
      if (from !== -1)
        report(group.at, `machines wait for each other: ${[...path.slice(from), group.value].join(' -> ')}`);
      else if (target !== undefined && !done.has(target.name)) visit(target);
    }
    path.pop();
    done.add(draft.name);
  };
  for (const draft of machines) if (!done.has(draft.name)) visit(draft);
}
