import type { Dependency, Forward, Machine, MachineKind, ProvisionStep, VolumeUse } from '../model/project.ts';
import { readCache } from './cache.ts';
import type { Report, Span } from './diagnostic.ts';
import { readDisks } from './disks.ts';
import { readImage } from './images.ts';
import { isolationKeys, readIsolation } from './isolation.ts';
import { readHealthcheck, readLifecycle } from './lifecycle.ts';
import { readLimits } from './limits.ts';
import { readShares } from './mounts.ts';
import { defaultNetwork } from './networks.ts';
import {
  booleanOf,
  choiceOf,
  commandOf,
  durationOf,
  entriesOf,
  entryOf,
  envOf,
  fieldOf,
  itemsOf,
  type Located,
  numberOf,
  sizeOf,
  textOf,
} from './read.ts';
import { readSteps } from './steps.ts';
import { type Entry, hasVariable, type Node } from './tree.ts';
import schema from './tsfile.schema.json' with { type: 'json' };
import { parseDuration, parseSize } from './units.ts';
import { readVolumeUses } from './volumes.ts';

/** A machine or a group of replicas as the Tsfile has it, with the places that checks between machines need. */
export interface MachineDraft {
  readonly name: string;
  readonly at: Span;
  /** undefined: neither or both of `image` and `box` are given. */
  readonly kind: MachineKind | undefined;
  readonly replicas: Located<number> | undefined;
  readonly hostname: Located<string> | undefined;
  readonly networks: readonly AttachmentDraft[];
  readonly forwards: readonly Located<Forward>[];
  readonly volumes: readonly Located<VolumeUse>[];
  readonly dependsOn: readonly DependencyDraft[];
  /** All that is the same for each replica. */
  readonly common: Omit<Machine, 'name' | 'hostname' | 'networks' | 'forwards' | 'dependsOn'>;
}

export interface AttachmentDraft {
  readonly network: Located<string>;
  readonly address: Located<string> | undefined;
}

export interface DependencyDraft {
  readonly group: Located<string>;
  readonly condition: Located<Dependency['condition']>;
}

const builtIn = schema.$defs.machine.properties;
const mebibyte = 2 ** 20;
const leastMemory = { vm: 128 * mebibyte, container: 4 * mebibyte } as const;

export interface Surroundings {
  /** Folder of the Tsfile: scripts and files below it are read. */
  readonly dir: string;
  /** Names of the boxes that there are. Any other `image` is an image of a registry. */
  readonly boxes: readonly string[];
}

/** Every machine of the file, and all that is wrong inside one machine. */
export function readMachines(root: Node, where: Surroundings, report: Report): readonly MachineDraft[] {
  const { dir } = where;
  const defaults = fieldOf(root, 'defaults');
  // Defaults are checked once, also those that no machine takes.
  sizeOf(fieldOf(defaults, 'memory'), report);
  durationOf(fieldOf(defaults, 'boot_timeout'), report);
  stopTimeoutOf(defaults, report);
  readIsolation(undefined, defaults, { dir, command: undefined, shares: [], volumes: [], image: false }, report);
  return entriesOf(fieldOf(root, 'machines')).map((entry) => readMachine(entry, defaults, where, report));
}

export function readMachine(
  { key, keySpan, value: node }: Entry,
  defaults: Node | undefined,
  { dir, boxes }: Surroundings,
  report: Report,
): MachineDraft {
  const own = (name: string) => fieldOf(node, name);
  const either = (name: string) => own(name) ?? fieldOf(defaults, name);
  const kind = readKind(node, report);
  const memory = sizeOf(either('memory'), own('memory') === undefined ? () => {} : report);
  const cpus = numberOf(either('cpus'));
  if (kind !== undefined) checkResources(key, kind, memory, cpus, report);
  const env = { ...envOf(fieldOf(defaults, 'env')), ...envOf(own('env')) };
  const envFromVariables = hasVariable(fieldOf(defaults, 'env')) || hasVariable(own('env'));
  const cache = readCache(node, defaults);
  const image = readImage(own('image'), boxes, report);
  const entrypoint = entrypointOf(own('entrypoint'));
  const command = commandOf(own('command'));
  const healthcheck = readHealthcheck(own('healthcheck'), report);
  const shares = readShares(own('share'), dir, report);
  const argv = entrypoint === undefined ? command : [...entrypoint, ...(command ?? [])];
  const volumes = readVolumeUses(own('volumes'), shares, report);
  const uses = volumes.map(({ value }) => value);
  const surroundings = {
    command: argv?.length === 0 ? undefined : argv,
    shares,
    volumes: uses,
    image: image?.isBox === false,
  };
  const isolation = kind === 'vm' ? undefined : readIsolation(node, defaults, { ...surroundings, dir }, report);
  const container =
    kind === 'container' ? { idle: surroundings.command === undefined && !surroundings.image } : undefined;
  const bootTimeoutMs =
    durationOf(own('boot_timeout'), report) ?? durationOf(fieldOf(defaults, 'boot_timeout'), () => {});
  const stopTimeoutMs = stopTimeoutOf(node, report) ?? stopTimeoutOf(defaults, () => {});
  return {
    name: key,
    at: keySpan,
    kind,
    replicas: numberOf(own('replicas')),
    hostname: textOf(own('hostname')),
    networks: readAttachments(either('networks'), keySpan, report),
    forwards: forwardsOf(node, report).flatMap((item) => readForward(item, report) ?? []),
    volumes,
    dependsOn: readDependencies(own('depends_on'), report),
    common: {
      group: key,
      kind: kind ?? 'container',
      box: image?.source ?? textOf(own('box'))?.value ?? '',
      ...(image?.isBox === false ? { image: {} } : {}),
      memoryBytes: memory?.value ?? parseSize(builtIn.memory.default) ?? 0,
      cpus: cpus?.value ?? builtIn.cpus.default,
      pids: numberOf(either('pids'))?.value ?? builtIn.pids.default,
      ...(kind === 'vm' ? {} : readLimits(node, report)),
      ...(entrypoint === undefined ? {} : { entrypoint }),
      ...(command === undefined ? {} : { command }),
      env,
      shares,
      ...(uses.length === 0 ? {} : { volumes: uses }),
      disks: readDisks(own('disks'), { kind, shares, volumes: uses, tmpfs: isolation?.tmpfs ?? [] }, report),
      ...(healthcheck === undefined ? {} : { healthcheck }),
      ...readLifecycle(node, container, report),
      provision: readSteps(own('provision'), dir, envFromVariables, report) satisfies readonly ProvisionStep[],
      ...(cache ? { cache } : {}),
      bootTimeoutMs: bootTimeoutMs ?? parseDuration(builtIn.boot_timeout.default) ?? 0,
      stopTimeoutMs: stopTimeoutMs ?? parseDuration(builtIn.stop_timeout.default) ?? 0,
      accel: choiceOf(either('accel'), ['auto', 'kvm', 'tcg'])?.value ?? 'auto',
      ...(kind === 'vm' && booleanOf(either('warm')) === false ? { warm: false } : {}),
      ...(isolation === undefined ? {} : { isolation }),
    },
  };
}

/** As a command; an empty list is one without any words, which takes the image's away. */
const entrypointOf = (node: Node | undefined): readonly string[] | undefined =>
  commandOf(node) ?? (node?.kind === 'seq' ? [] : undefined);

/** Compose's word for a key is taken as well, but not beside it. */
function otherName(node: Node | undefined, other: string, name: string, report: Report): Node | undefined {
  const entry = entryOf(node, other);
  if (entry !== undefined && entryOf(node, name) !== undefined)
    report(entry.keySpan, `\`${other}\` is another name for \`${name}\`, which is given, too`, 'remove one');
  return entry?.value;
}

const forwardsOf = (node: Node, report: Report): readonly Node[] => [
  ...itemsOf(otherName(node, 'ports', 'forwards', report)),
  ...itemsOf(fieldOf(node, 'forwards')),
];

function stopTimeoutOf(node: Node | undefined, report: Report): number | undefined {
  const other = otherName(node, 'stop_grace_period', 'stop_timeout', report);
  return durationOf(other, report) ?? durationOf(fieldOf(node, 'stop_timeout'), report);
}

/** Keys that one kind of machine has no use for: what to say, and what to do instead. */
const notFor: Readonly<Record<MachineKind, readonly (readonly [key: string, message: string, hint: string])[]>> = {
  vm: [
    ['share', 'sharing folders with a VM is not supported yet', 'copy them with a `file` step in `provision`'],
    ['volumes', 'volumes are for containers; a VM cannot mount them yet', 'keep data on a disk of the VM with `disks`'],
    ['command', '`command` is for containers; a VM runs the system of its box', 'start services in `provision`'],
    ['entrypoint', '`entrypoint` is for containers', 'remove it'],
    ['pids', '`pids` is for containers', 'remove it'],
    ['cpu_shares', '`cpu_shares` is for containers', 'remove it'],
    ['io', '`io` is for containers', 'remove it'],
    ...isolationKeys.map((key) => [key, `\`${key}\` is only for containers`, 'remove it'] as const),
  ],
  container: [
    ['accel', '`accel` is for VMs', 'remove it'],
    ['warm', '`warm` is for VMs; containers start at once', 'remove it'],
  ],
};

function readKind(node: Node, report: Report): MachineKind | undefined {
  const image = entryOf(node, 'image');
  const box = entryOf(node, 'box');
  if ((image === undefined) === (box === undefined)) return undefined;
  const kind = image === undefined ? 'vm' : 'container';
  const given = choiceOf(fieldOf(node, 'kind'), ['vm', 'container']);
  if (given !== undefined && given.value !== kind) {
    report(
      given.at,
      `\`kind: ${given.value}\` does not agree with \`${kind === 'vm' ? 'box' : 'image'}\``,
      `\`${kind === 'vm' ? 'image' : 'box'}\` makes a ${given.value}`,
    );
  }
  for (const [key, message, hint] of notFor[kind]) {
    const entry = entryOf(node, key);
    if (entry !== undefined) report(entry.keySpan, message, hint);
  }
  return kind;
}

function checkResources(
  name: string,
  kind: MachineKind,
  memory: Located<number> | undefined,
  cpus: Located<number> | undefined,
  report: Report,
): void {
  if (memory !== undefined && memory.value < leastMemory[kind]) {
    report(
      memory.at,
      `${kind === 'vm' ? 'the VM' : 'the container'} \`${name}\` needs at least ${leastMemory[kind] / mebibyte}M of memory`,
    );
  }
  if (kind === 'vm' && cpus !== undefined && !Number.isInteger(cpus.value)) {
    report(
      cpus.at,
      `the VM \`${name}\` cannot have ${cpus.value} CPUs`,
      'a VM has whole CPUs; fractions are for containers',
    );
  }
}

function readAttachments(node: Node | undefined, at: Span, report: Report): readonly AttachmentDraft[] {
  if (node === undefined) return [{ network: { value: defaultNetwork, at }, address: undefined }];
  const attachments: AttachmentDraft[] = [];
  for (const item of itemsOf(node)) {
    const network = textOf(item) ?? textOf(fieldOf(item, 'name'));
    if (network === undefined) continue;
    if (attachments.some((other) => other.network.value === network.value)) {
      report(network.at, `the network \`${network.value}\` is listed twice`);
    }
    attachments.push({ network, address: textOf(fieldOf(item, 'address')) });
  }
  return attachments;
}

function readForward(node: Node, report: Report): Located<Forward> | undefined {
  const text = textOf(node);
  if (text === undefined) {
    const [host, guest] = [numberOf(fieldOf(node, 'host')), numberOf(fieldOf(node, 'guest'))];
    if (host === undefined || guest === undefined) return undefined;
    const hostAddress = textOf(fieldOf(node, 'address'))?.value ?? schema.$defs.forward.properties.address.default;
    return { value: { hostAddress, hostPort: host.value, guestPort: guest.value }, at: host.at };
  }
  const match = /^(?:([0-9.]+):)?([0-9]{1,5}):([0-9]{1,5})$/.exec(text.value);
  if (match === null) return undefined;
  const [hostPort, guestPort] = [Number(match[2]), Number(match[3])];
  for (const port of [hostPort, guestPort]) {
    if (port < 1 || port > 65535) report(text.at, `${port} is no port`, 'ports go from 1 to 65535');
  }
  return {
    value: { hostAddress: match[1] ?? schema.$defs.forward.properties.address.default, hostPort, guestPort },
    at: text.at,
  };
}

function readDependencies(node: Node | undefined, report: Report): readonly DependencyDraft[] {
  const dependencies: DependencyDraft[] = entriesOf(node).map(({ key, keySpan, value }) => ({
    group: { value: key, at: keySpan },
    condition: choiceOf(value, ['started', 'healthy', 'completed']) ?? { value: 'started', at: keySpan },
  }));
  for (const item of itemsOf(node)) {
    const group = textOf(item);
    if (group === undefined) continue;
    if (dependencies.some((other) => other.group.value === group.value))
      report(group.at, `\`${group.value}\` is listed twice`);
    dependencies.push({ group, condition: { value: 'started', at: group.at } });
  }
  return dependencies;
}
