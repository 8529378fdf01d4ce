import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { userInfo } from 'node:os';
import { dirname, join } from 'node:path';
import { fnv1a } from '../../src/state/names.ts';
import { type HostProcess, listProcesses, read, tsvId } from './host-processes.ts';
import { until } from './until.ts';

/*
 * The leak oracle: what of this host could be tsv's, before and after. It works for root and for ordinary users, who
 * see less, and on a machine where others work at the same time: what provably belongs to another project is left out.
 */

/** Something on the host that could be tsv's. */
export interface Trace {
  /** For people. */
  readonly what: string;
  /** Whose it is, as far as it says: `project:NAME`, `id:PROJECT-ID`, `folder:PATH`, `run:HEX`, `hash:HEX`. */
  readonly clues: readonly string[];
}

const kinds = [
  'processes',
  'network namespaces',
  'links',
  'routes',
  'nft',
  'mounts',
  'cgroups',
  'block devices',
  'shared memory',
  'run folders',
  'sockets',
  'sysctls',
] as const;
type Kind = (typeof kinds)[number];

/** Plain JSON. Per kind: traces by what identifies them. */
export interface Snapshot {
  readonly traces: Readonly<Record<Kind, Readonly<Record<string, Trace>>>>;
  /** `pid/startTime` of every process, so that it is known later who was here before. */
  readonly processes: readonly string[];
}

/** The projects under test; all others' things are left out. Without a scope everything that is new counts. */
export interface Scope {
  readonly folders: readonly string[];
  readonly projects: readonly string[];
  readonly projectIds: readonly string[];
}

const sbin = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;
const hash = (text: string, length: number): string => createHash('sha256').update(text).digest('hex').slice(0, length);

export function takeSnapshot(): Snapshot {
  const all = listProcesses();
  const processes = processTraces(all);
  return {
    traces: {
      processes: Object.fromEntries(processes.map(({ process, trace }) => [keyOf(process), trace])),
      'network namespaces': namespaceTraces(processes),
      links: linkTraces(),
      routes: routeTraces(),
      nft: nftTraces(),
      mounts: mountTraces(),
      cgroups: cgroupTraces(),
      'block devices': blockTraces(),
      'shared memory': listed('/dev/shm', (name) => /tsv|qemu|vm-/.test(name)),
      'run folders': Object.assign({}, ...runBases().map((base) => tree(base))),
      sockets: socketTraces(),
      sysctls: sysctlTraces(),
    },
    processes: [...all.values()].map(keyOf),
  };
}

/** What is in `after`, was not in `before`, and is not provably another project's. One line each. */
export function findLeaks(before: Snapshot, after: Snapshot, scope?: Scope): string[] {
  const own = scope === undefined ? undefined : cluesOf(scope);
  return kinds.flatMap((kind) =>
    Object.entries(after.traces[kind])
      .filter(([key, { clues }]) => {
        if (before.traces[kind][key] !== undefined) return false;
        if (kind === 'sysctls' && Object.keys(before.traces.sysctls).length === 0) return false;
        if (own === undefined || clues.length === 0) return true;
        return clues.some((clue) => own.has(clue)) || clues.some((clue) => isBelow(clue, scope?.folders ?? []));
      })
      .map(([, { what }]) => `${kind}: ${what}`),
  );
}

/** Fails with what is left on the host. The kernel takes namespaces down in its own time: looks for up to 2 s. */
export async function expectNoLeaks(before: Snapshot, scope?: Scope): Promise<void> {
  let leaks: string[] = [];
  try {
    await until(
      'nothing is left behind',
      () => {
        leaks = findLeaks(before, takeSnapshot(), scope);
        return leaks.length === 0;
      },
      { timeoutMs: 2000, everyMs: 100 },
    );
  } catch {
    throw new Error(`left behind on the host:\n${leaks.map((leak) => `  ${leak}`).join('\n')}`);
  }
}

const cluesOf = ({ folders, projects, projectIds }: Scope): Set<string> =>
  new Set([
    ...folders.flatMap((folder) => [`folder:${folder}`, `run:${fnv1a(real(folder))}`]),
    ...projects.map((name) => `project:${name}`),
    ...projectIds.flatMap((id) => [`id:${id}`, `hash:${hash(id, 8)}`]),
  ]);

const isBelow = (clue: string, folders: readonly string[]): boolean =>
  folders.some((folder) => clue.startsWith(`folder:${folder}/`));

const real = (path: string): string => (existsSync(path) ? realpathSync(path) : path);
const keyOf = (process: HostProcess): string => `${process.pid}/${process.startTime}`;

/** Processes that say so themselves, or that are in namespaces of their own without anybody else to answer for them. */
function processTraces(all: ReadonlyMap<number, HostProcess>): { process: HostProcess; trace: Trace }[] {
  const self = all.get(process.pid);
  const neutral = new Set([1, ...ancestors(self, all).map(({ pid }) => pid)]);
  const traces: { process: HostProcess; trace: Trace }[] = [];
  for (const candidate of all.values()) {
    if (candidate.pid === process.pid || neutral.has(candidate.pid)) continue;
    if (candidate.command === '' || !mayBeOurs(candidate.uid)) continue; // '': a thread of the kernel
    const line = [candidate, ...ancestors(candidate, all)].filter(({ pid }) => !neutral.has(pid) && pid !== self?.pid);
    const clues = new Set(line.flatMap(processClues));
    const apart = ['net', 'user', 'mnt', 'pid'].some(
      (name) => candidate.namespaces[name] !== '' && candidate.namespaces[name] !== self?.namespaces[name],
    );
    const eldest = line.at(-1);
    // Reparented to init, or started by this test: nobody else's.
    const nobodyElses = eldest?.pid === candidate.pid || ancestors(candidate, all).some(({ pid }) => pid === self?.pid);
    if (!isNamed(candidate) && clues.size === 0 && !(apart && nobodyElses)) continue;
    const label = tsvId(candidate);
    traces.push({
      process: candidate,
      trace: {
        what: `${candidate.command.slice(0, 160)} (pid ${candidate.pid}, parent ${candidate.parent}${label === undefined ? '' : `, TSV_ID=${label}`}, net:[${candidate.namespaces.net}])`,
        clues: [...clues],
      },
    });
  }
  return traces;
}

/** A user's processes are the user's or have ids of its range in /etc/subuid; root's may have any. */
function mayBeOurs(uid: number): boolean {
  const own = process.getuid?.() ?? 0;
  if (uid === own) return true;
  // Root of a user namespace is an ordinary user outside.
  if (own === 0 && /^\s*0\s+0\s+4294967295$/m.test(read('/proc/self/uid_map'))) return true;
  const ranges = read('/etc/subuid')
    .split('\n')
    .map((line) => line.split(':'));
  return ranges.some(
    ([user, first, count]) =>
      user === userInfo().username && uid >= Number(first) && uid < Number(first) + Number(count),
  );
}

/** It says itself that it is tsv's. */
const isNamed = (process: HostProcess): boolean =>
  tsvId(process) !== undefined || /\.ts-vm\/|dist\/(?:parts\/agent|tsv)\.js/.test(process.command);

function ancestors(process: HostProcess | undefined, all: ReadonlyMap<number, HostProcess>): HostProcess[] {
  const line: HostProcess[] = [];
  for (let at = process && all.get(process.parent); at !== undefined && at.pid > 1; at = all.get(at.parent))
    line.push(at);
  return line;
}

function processClues(process: HostProcess): string[] {
  const id = tsvId(process);
  // A container shows whose it is in the upper directory of its root file system.
  const mounts = process.namespaces.mnt === '' ? '' : read(`/proc/${process.pid}/mountinfo`);
  return [
    ...(id?.startsWith('tsv:') === true ? [`project:${id.slice(4)}`] : []),
    ...[...`${process.command}\n${mounts}`.matchAll(/([^\s,=:]+)\/\.ts-vm\//g)].map(
      (match) => `folder:${unescapeMount(match[1] ?? '')}`,
    ),
    ...(isNamed(process) && process.cwd.length > 1 ? [`folder:${process.cwd}`] : []),
    ...[...process.cgroup.matchAll(/\/tsv\/([0-9a-z-]+)/g)].map((match) => `id:${match[1]}`),
  ];
}

/** Of every suspicious process: which network namespaces are there, and who is in them. */
function namespaceTraces(processes: readonly { process: HostProcess; trace: Trace }[]): Record<string, Trace> {
  const own = listProcesses().get(process.pid)?.namespaces.net;
  const found: Record<string, { who: string[]; clues: string[] }> = {};
  for (const { process: member, trace } of processes) {
    const inode = member.namespaces.net;
    if (inode === undefined || inode === '' || inode === own) continue;
    found[inode] ??= { who: [], clues: [] };
    const entry = found[inode];
    entry.who.push(`${member.name} ${member.pid}`);
    entry.clues.push(...trace.clues);
  }
  return Object.fromEntries(
    Object.entries(found).map(([inode, { who, clues }]) => [
      inode,
      { what: `net:[${inode}] of ${who.join(', ')}`, clues },
    ]),
  );
}

const hashClue = (text: string): string[] =>
  [...text.matchAll(/tsv[-_]([0-9a-f]{8})\b/g)].map((match) => `hash:${match[1]}`);

/** Docker's bridges (br- and 12 hex digits) are not ours; ours would be called after a network. */
const deviceName = /^(tsv-|uplink$|[ct][0-9a-f]{10}-\d+$|br-(?![0-9a-f]{12}$))/;

function linkTraces(): Record<string, Trace> {
  const links = json<{ ifname: string; ifindex: number }[]>('ip', '-j', 'link') ?? [];
  return Object.fromEntries(
    links
      .filter(({ ifname }) => deviceName.test(ifname))
      .map(({ ifname, ifindex }) => [`${ifindex}`, { what: ifname, clues: hashClue(ifname) }]),
  );
}

/** Of every project that has a way out through the host now. */
const linkClues = (): string[] => Object.values(linkTraces()).flatMap(({ clues }) => clues);

function routeTraces(): Record<string, Trace> {
  const routes = json<{ dst: string; dev?: string }[]>('ip', '-j', 'route', 'show', 'table', 'all') ?? [];
  return Object.fromEntries(
    routes
      .filter(({ dev }) => dev !== undefined && deviceName.test(dev))
      .map((route) => [
        JSON.stringify(route),
        { what: `${route.dst} dev ${route.dev}`, clues: hashClue(route.dev ?? '') },
      ]),
  );
}

/** Only root may look. Rules of ours in other tables count as well. */
function nftTraces(): Record<string, Trace> {
  const ruleset = json<{ nftables: Record<string, object>[] }>('nft', '-j', 'list', 'ruleset')?.nftables ?? [];
  const lines = ruleset
    .map((entry) => JSON.stringify(entry, (key, value: unknown) => (key === 'handle' ? undefined : value)))
    .filter((line) => line.includes('tsv'));
  return Object.fromEntries(
    // The table that all projects share belongs to those that are up.
    lines.map((line) => [line, { what: line, clues: line.includes('tsv_forwarding') ? linkClues() : hashClue(line) }]),
  );
}

function mountTraces(): Record<string, Trace> {
  const lines = read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => /\.ts-vm|\btsv\b|tsv-|ts-vm/.test(line));
  return Object.fromEntries(
    lines.map((line) => {
      const [before = '', after = ''] = line.split(' - ');
      const path = unescapeMount(before.split(' ')[4] ?? '');
      return [
        line,
        {
          what: `${path} (${after})`,
          clues: [...line.matchAll(/([^\s,=:]+)\/\.ts-vm\//g)].map(
            (match) => `folder:${unescapeMount(match[1] ?? '')}`,
          ),
        },
      ];
    }),
  );
}

/** mountinfo writes a space as \040 (proc(5)). */
const unescapeMount = (text: string): string =>
  text.replace(/\\([0-7]{3})/g, (_, octal: string) => String.fromCharCode(Number.parseInt(octal, 8)));

/** Folders called tsv… in every hierarchy, at its top and where this process is. */
function cgroupTraces(): Record<string, Trace> {
  const own = read('/proc/self/cgroup')
    .trim()
    .split('\n')
    .map((line) => line.split(':')[2] ?? '/');
  const mounts = read('/proc/self/mountinfo')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line))
    .map((line) => line.split(' ')[4] ?? '');
  const found: Record<string, Trace> = {};
  const walk = (folder: string) => {
    for (const name of subfolders(folder)) {
      const path = join(folder, name);
      const id = /\/tsv\/([0-9a-z-]+)/.exec(path)?.[1];
      if (id !== undefined) found[path] = { what: path, clues: [`id:${id}`] };
      walk(path);
    }
  };
  for (const base of new Set(mounts.flatMap((mount) => ['/', ...own].map((path) => join(mount, path))))) {
    for (const name of subfolders(base).filter((entry) => entry.startsWith('tsv'))) {
      // `tsv` itself is everybody's; what is in it has an owner. Empty, it is a trace of its own.
      if (subfolders(join(base, name)).length === 0) found[join(base, name)] = { what: join(base, name), clues: [] };
      walk(join(base, name));
    }
  }
  return found;
}

function subfolders(folder: string): string[] {
  try {
    return readdirSync(folder, { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name);
  } catch {
    return [];
  }
}

/** Loop, device-mapper and network block devices in use. tsv uses none: each new one is told with what is behind it. */
function blockTraces(): Record<string, Trace> {
  const found: Record<string, Trace> = {};
  for (const name of existsSync('/sys/block') ? readdirSync('/sys/block') : []) {
    const behind = ['loop/backing_file', 'dm/name', 'pid']
      .map((file) => read(`/sys/block/${name}/${file}`).trim())
      .find((text) => text !== '');
    if (/^(loop|dm-|nbd)/.test(name) && behind !== undefined && /tsv|ts-vm/.test(behind))
      found[`${name} ${behind}`] = {
        what: `${name}: ${behind}`,
        clues: behind.startsWith('/') ? [`folder:${dirname(behind)}`] : [],
      };
  }
  return found;
}

/** Folders of sockets: see docs/state.md. */
const runBases = (): string[] => {
  const uid = process.getuid?.() ?? 0;
  const own = process.env.XDG_RUNTIME_DIR;
  return [...(own === undefined ? [] : [join(own, 'tsv')]), `/run/user/${uid}/tsv`, `/tmp/tsv-${uid}`, '/run/tsv'];
};

function tree(base: string, run?: string): Record<string, Trace> {
  let names: string[] = [];
  try {
    names = readdirSync(base);
  } catch {
    return {};
  }
  return Object.assign(
    {},
    ...names.map((name) => {
      const path = join(base, name);
      const owner = run ?? name;
      return { [path]: { what: path, clues: [`run:${owner}`, `id:${owner}`] }, ...tree(path, owner) };
    }),
  );
}

function listed(folder: string, isOurs: (name: string) => boolean): Record<string, Trace> {
  const names = existsSync(folder) ? readdirSync(folder).filter(isOurs) : [];
  return Object.fromEntries(names.map((name) => [name, { what: join(folder, name), clues: [] }]));
}

/** Bound Unix sockets, also abstract ones (`@…`). */
function socketTraces(): Record<string, Trace> {
  const found: Record<string, Trace> = {};
  for (const line of read('/proc/net/unix').split('\n').slice(1)) {
    const [, , , , , , inode = '', path = ''] = line.trim().split(/\s+/);
    if (!/\/tsv(-\d+)?\/|\.ts-vm\/|^@tsv/.test(path)) continue;
    const name = path.replace(/@+$/, ''); // the NULs that fill an abstract address
    const run = /\/tsv(?:-\d+)?\/([0-9a-f]{16})\//.exec(path)?.[1];
    found[`${inode} ${name}`] = { what: name, clues: run === undefined ? [] : [`run:${run}`] };
  }
  return found;
}

/**
 * Only root's projects can change it. While one of them is up, or has left its table in a crash, forwarding is on for that one
 * and says nothing: then there is no trace.
 */
function sysctlTraces(): Record<string, Trace> {
  if (process.getuid?.() !== 0) return {};
  if (linkClues().length > 0 || json('nft', '-j', 'list', 'table', 'inet', 'tsv_forwarding') !== undefined) return {};
  const value = read('/proc/sys/net/ipv4/ip_forward').trim();
  return { [`net.ipv4.ip_forward=${value}`]: { what: `net.ipv4.ip_forward is ${value} now`, clues: [] } };
}

function json<T>(file: string, ...args: string[]): T | undefined {
  try {
    const text = execFileSync(file, args, {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
      env: { ...process.env, PATH: sbin },
      maxBuffer: 1 << 26,
    });
    return text.trim() === '' ? undefined : (JSON.parse(text) as T);
  } catch {
    return undefined; // not installed, or not for this user
  }
}
