import { resolve } from 'node:path';
import { type ContainerUser, type Isolation, isolationOf, type SeccompFile, type Ulimit } from '../model/project.ts';
import { parseSignal, signalNames } from '../model/signals.ts';
import { contentDigest } from './content.ts';
import type { Report, Span } from './diagnostic.ts';
import { type Mounted, readDevices, readTmpfs } from './mounts.ts';
import { capabilities as capabilityNames } from './names.ts';
import {
  booleanOf,
  entriesOf,
  entryOf,
  fieldOf,
  guestPathOf,
  itemsOf,
  leastPage,
  numberOf,
  sizeOf,
  textOf,
  wordOf,
} from './read.ts';
import { didYouMean } from './suggest.ts';
import type { Node } from './tree.ts';

/** Keys of the Tsfile that are read here: what a container can be told, and a VM cannot. */
export const isolationKeys = [
  'privileged',
  'capabilities',
  'seccomp',
  'devices',
  'sysctls',
  'tmpfs',
  'ulimits',
  'shm_size',
  'read_only',
  'user',
  'init',
  'stop_signal',
  'workdir',
] as const;

interface Surroundings extends Mounted {
  /** Folder of the Tsfile. */
  readonly dir: string;
  /** With its entrypoint; undefined: the Tsfile has none. */
  readonly command: readonly string[] | undefined;
  /** It is made from an OCI image: what that one may say is left open where the Tsfile is silent. */
  readonly image: boolean;
}

/**
 * A container's isolation. A key of `own` replaces the same key of `defaults`. Looks at the devices and reads the
 * seccomp profile that are named.
 */
export function readIsolation(
  own: Node | undefined,
  defaults: Node | undefined,
  { dir, command, shares, volumes, image }: Surroundings,
  report: Report,
): Isolation {
  const option = (key: (typeof isolationKeys)[number]) => fieldOf(own, key) ?? fieldOf(defaults, key);
  const { user, stopSignal, workdir, ...builtIn } = isolationOf(command === undefined ? {} : { command });
  const privileged = booleanOf(option('privileged')) ?? builtIn.privileged;
  const ownInit = entryOf(own, 'init');
  if (command === undefined && !image && ownInit !== undefined && booleanOf(ownInit.value) === false)
    report(ownInit.keySpan, 'without a `command`, the init is all that runs', 'give the container a `command`');
  return {
    privileged,
    capabilities: readCapabilities(option('capabilities'), privileged, report),
    seccomp: readSeccomp(option('seccomp'), dir, report) ?? (privileged ? 'unconfined' : builtIn.seccomp),
    devices: readDevices(option('devices'), report),
    sysctls: readSysctls(option('sysctls'), report),
    tmpfs: readTmpfs(option('tmpfs'), { shares, volumes }, report),
    ulimits: readUlimits(option('ulimits'), report),
    shmBytes: readShmSize(option('shm_size'), report) ?? builtIn.shmBytes,
    readOnly: booleanOf(option('read_only')) ?? builtIn.readOnly,
    init: (command === undefined && !image) || (booleanOf(option('init')) ?? false),
    ...present({
      user: readUser(option('user'), report) ?? (image ? undefined : user),
      stopSignal: readSignal(option('stop_signal'), report) ?? (image ? undefined : stopSignal),
      workdir: guestPathOf(option('workdir'), report)?.value ?? (image ? undefined : workdir),
    }),
  };
}

type Open = Pick<Isolation, 'user' | 'stopSignal' | 'workdir'>;

const present = (values: { readonly [K in keyof Open]: Open[K] | undefined }): Open =>
  Object.fromEntries(Object.entries(values).filter(([, value]) => value !== undefined));

/** A name that is given counts more than `ALL` and `privileged`, so that the order of the two lists does not matter. */
function readCapabilities(node: Node | undefined, privileged: boolean, report: Report): Isolation['capabilities'] {
  const [add, drop] = [readNames(fieldOf(node, 'add'), report), readNames(fieldOf(node, 'drop'), report)];
  const dropAll = drop.get('ALL');
  if (dropAll !== undefined && add.has('ALL')) report(dropAll, '`ALL` is added and dropped');
  for (const [name, at] of drop)
    if (name !== 'ALL' && add.has(name)) report(at, `the capability ${name} is added and dropped`);
  const addAll = add.has('ALL') || (privileged && dropAll === undefined);
  const pick = (chosen: (name: string) => boolean) => capabilityNames.filter(chosen).map((name) => `CAP_${name}`);
  return {
    add: pick((name) => (addAll ? !drop.has(name) : add.has(name))),
    drop: pick((name) => (dropAll === undefined ? drop.has(name) : !add.has(name))),
  };
}

/** Names without CAP_, with `ALL` as it is, and the place of each. */
function readNames(node: Node | undefined, report: Report): ReadonlyMap<string, Span> {
  const names = new Map<string, Span>();
  for (const item of itemsOf(node)) {
    const text = textOf(item);
    if (text === undefined) continue;
    const name = text.value.toUpperCase().replace(/^CAP_/, '');
    const known = ['ALL', ...capabilityNames];
    if (known.includes(name)) names.set(name, text.at);
    else
      report(
        text.at,
        `there is no capability \`${text.value}\``,
        didYouMean(name, known) ?? 'capabilities(7) lists them',
      );
  }
  return names;
}

function readSeccomp(node: Node | undefined, dir: string, report: Report): Isolation['seccomp'] | undefined {
  const text = textOf(node);
  if (text === undefined || text.value === '') return undefined;
  if (text.value === 'default' || text.value === 'unconfined') return text.value;
  const path = resolve(dir, text.value);
  const content = contentDigest(path, { folders: false });
  if (!content.ok) {
    const hint = didYouMean(text.value, ['default', 'unconfined']);
    report(text.at, `the seccomp profile ${text.value} ${content.why}`, hint ?? '`default`, `unconfined` or a file');
  }
  return { path, digest: content.ok ? content.digest : '' } satisfies SeccompFile;
}

/** The names are the schema's to check. Whole numbers are passed on as they are written: some have 64 bits. */
function readSysctls(node: Node | undefined, report: Report): Isolation['sysctls'] {
  const values = entriesOf(node).flatMap(({ key, value }) => {
    const [text, number] = [wordOf(value), numberOf(value)];
    if (text === undefined) return [];
    if (number === undefined || /^-?[0-9]+$/.test(text.value)) return [[key, text.value] as const];
    if (Math.abs(number.value) > Number.MAX_SAFE_INTEGER)
      report(text.at, `${text.value} is not a number that the kernel reads`);
    return [[key, String(number.value)] as const];
  });
  return Object.fromEntries(values);
}

function readUlimits(node: Node | undefined, report: Report): readonly Ulimit[] {
  return entriesOf(node)
    .map(({ key, value }): Ulimit => {
      const both = readLimit(value, report);
      const soft = both ?? readLimit(fieldOf(value, 'soft'), report) ?? 'unlimited';
      const hard = both ?? readLimit(fieldOf(value, 'hard'), report) ?? 'unlimited';
      const at = wordOf(fieldOf(value, 'soft'))?.at;
      if (at !== undefined && hard !== 'unlimited' && (soft === 'unlimited' || soft > hard))
        report(at, `the soft limit ${soft} of \`${key}\` is above the hard one, ${hard}`);
      return { name: `RLIMIT_${key.toUpperCase()}`, soft, hard };
    })
    .sort((a, b) => (a.name < b.name ? -1 : 1));
}

function readLimit(node: Node | undefined, report: Report): number | 'unlimited' | undefined {
  const text = wordOf(node);
  if (text === undefined) return undefined;
  const number = numberOf(node)?.value ?? (/^(?:-1|[0-9]+)$/.test(text.value) ? Number(text.value) : undefined);
  if (text.value === 'unlimited' || number === -1) return 'unlimited';
  if (number !== undefined && number > Number.MAX_SAFE_INTEGER)
    report(text.at, `${text.value} is more than any limit`, 'write `unlimited`');
  return number;
}

function readShmSize(node: Node | undefined, report: Report): number | undefined {
  const size = sizeOf(node, report);
  // The kernel takes 0 for no limit at all (tmpfs(5)).
  if (size !== undefined && size.value < leastPage) report(size.at, '`shm_size` is at least 4K');
  return size?.value;
}

/** (uid_t) -1 means "no change" to the kernel (chown(2)), so it is nobody's id. */
const highestId = 2 ** 32 - 2;

function readUser(node: Node | undefined, report: Report): ContainerUser | undefined {
  const text = textOf(node);
  const number = numberOf(node);
  if (number !== undefined) return { user: number.value };
  if (text === undefined) return undefined;
  const idOrName = (part: string): number | string => {
    if (!/^[0-9]+$/.test(part)) return part;
    if (Number(part) > highestId) report(text.at, `${part} is no id of a user or group`, `the highest is ${highestId}`);
    return Number(part);
  };
  const [user = '', group] = text.value.split(':');
  return { user: idOrName(user), ...(group === undefined ? {} : { group: idOrName(group) }) };
}

function readSignal(node: Node | undefined, report: Report): number | undefined {
  const text = wordOf(node);
  const number = numberOf(node)?.value;
  if (text === undefined || number !== undefined) return number;
  const signal = parseSignal(text.value);
  if (signal === undefined) {
    const hint = didYouMean(text.value.replace(/^SIG/i, ''), signalNames) ?? 'signal(7) lists them';
    report(text.at, `there is no signal \`${text.value}\``, hint);
  }
  return signal;
}
