import { closeSync, constants, existsSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, onTestFinished, type TestContext } from 'vitest';
import {
  type Cgroup,
  type CgroupLayout,
  type CreatedCgroup,
  createCgroup,
  detectCgroups,
  killCgroup,
  placeCgroup,
  removeCgroup,
} from '../../../src/cgroup/index.ts';
import type { OciResources } from '../../../src/oci/spec.ts';
import { waitExit } from '../../../src/sys/children.ts';
import { fork, pipe, stdio } from '../../../src/sys/fork.ts';
import type { Step } from '../../../src/sys/program.ts';

/* Real cgroups of this host, below a name of the test's own: as root. For test/integration/cgroup*.test.ts. */

export const strict = { strict: true };
export const layout: CgroupLayout = detectCgroups();
/** Of the test's own: the first part of its cgroups' paths. */
export let name: string;
let made: CreatedCgroup[];
let before: string[];
/** What the top of cgroup v2 hands down: tsv leaves it so, a test does not. */
const handedDown = (): string[] =>
  some('v2').hierarchies.flatMap(({ mountPoint }) =>
    readFileSync(join(mountPoint, 'cgroup.subtree_control'), 'utf8').trim().split(' '),
  );
/** Before and after each test: a name, and nothing of it left. */
export function useCgroups(): void {
  beforeEach((context) => {
    if (process.geteuid?.() !== 0) context.skip('cgroups of one’s own choice need root');
    name = `/tsv-test-${Math.random().toString(36).slice(2)}`;
    made = [];
    before = handedDown();
  });
  afterEach(async () => {
    for (const { cgroup } of made) {
      await killCgroup(cgroup, 9);
      await removeCgroup(cgroup, { parents: true });
    }
    for (const { mountPoint } of layout.hierarchies) expect(existsSync(join(mountPoint, name))).toBe(false);
    for (const { mountPoint } of some('v2').hierarchies)
      for (const added of handedDown().filter((controller) => !before.includes(controller)))
        writeFileSync(join(mountPoint, 'cgroup.subtree_control'), `-${added}`);
  });
}

/** Only the unified hierarchy, or only those of v1: each is a host of its own kind. */
export type Kind = 'v1' | 'v2' | 'all';
export const some = (kind: Kind): CgroupLayout => ({
  ...layout,
  hierarchies: layout.hierarchies.filter(({ version }) => kind === 'all' || version === (kind === 'v1' ? 1 : 2)),
});
const has = (kind: Kind, controller: string): boolean =>
  some(kind).hierarchies.some(({ controllers }) => controllers.includes(controller));

/** Skips where the host has no such controller in a hierarchy of that kind. */
export function need(context: TestContext, kind: Kind, ...controllers: string[]): void {
  const missing = controllers.filter((controller) => !has(kind, controller));
  if (missing.length > 0)
    context.skip(`this host has no ${missing.join(', ')} in cgroup ${kind} (it is ${layout.mode})`);
}
export function needV2(context: TestContext): void {
  if (some('v2').hierarchies.length === 0) context.skip(`this host has no cgroup v2 (it is ${layout.mode})`);
}

export function create(
  kind: Kind,
  resources: OciResources = {},
  more: { readonly path?: string; readonly ownerUid?: number } = {},
): CreatedCgroup {
  const { path = 'box', ...options } = more;
  const place = placeCgroup(some(kind), { cgroupsPath: `${name}/${path}`, id: 'unused' });
  const created = createCgroup(place, resources, { ...strict, ...options });
  made.push(created);
  return created;
}
export const folderOf = (cgroup: Cgroup, controller: string): string =>
  cgroup.members.find(({ version, controllers }) => version === 1 && controllers.includes(controller))?.folder ??
  cgroup.members.find(({ version }) => version === 2)?.folder ??
  expect.fail(`no folder for ${controller}`);
export const read = (cgroup: Cgroup, file: string, controller = file.split('.')[0] ?? ''): string =>
  readFileSync(join(folderOf(cgroup, controller), file), 'utf8').trim();

/** A whole one: a partition has no limits. */
export function someDisk(): { major: number; minor: number } | undefined {
  const [name] = readdirSync('/sys/block').sort((a, b) => Number(a.startsWith('loop')) - Number(b.startsWith('loop')));
  if (name === undefined) return undefined;
  const [major = 0, minor = 0] = readFileSync(`/sys/block/${name}/dev`, 'utf8').split(':').map(Number);
  return { major, minor };
}

export interface Run {
  readonly pid: number;
  readonly exited: ReturnType<typeof waitExit>;
  /** All that it printed, once nobody can print any more. */
  readonly output: Promise<string>;
  /** Resolves when this was printed. */
  prints(text: string): Promise<void>;
}

/** Forks a child that writes `0` to each cgroup.procs by descriptor, as a container does, and runs `sh -c script`. */
export async function run({ folders }: CreatedCgroup, script: string): Promise<Run> {
  const [readEnd, writeEnd] = pipe();
  const input = openSync('/dev/null', 'r');
  const procs = folders.map((folder) => openSync(join(folder, 'cgroup.procs'), constants.O_WRONLY));
  const steps: Step[] = [
    ...procs.map((_, i): Step => ({ call: 'write', args: [{ fd: `cgroup${i}` }, '0', 1] })),
    ...stdio(),
    {
      call: 'execve',
      args: ['/bin/sh', { strings: ['/bin/sh', '-c', script] }, { strings: ['PATH=/usr/sbin:/usr/bin:/sbin:/bin'] }],
    },
  ];
  const fds = { stdin: input, stdout: writeEnd, stderr: writeEnd };
  try {
    const child = fork({ fds: { ...fds, ...Object.fromEntries(procs.map((fd, i) => [`cgroup${i}`, fd])) }, steps });
    await child.executed;
    const socket = new Socket({ fd: readEnd, readable: true, writable: false }).setEncoding('utf8');
    let text = '';
    socket.on('data', (data) => {
      text += data;
    });
    const output = new Promise<string>((resolve) => socket.on('close', () => resolve(text)));
    onTestFinished(() => void socket.destroy());
    return {
      pid: child.pid,
      exited: waitExit(child.pid),
      output,
      prints: (wanted) =>
        new Promise((resolve, reject) => {
          const look = () => text.includes(wanted) && resolve();
          socket.on('data', look);
          socket.on('close', () => reject(new Error(`it ended without printing '${wanted}': ${text}`)));
          look();
        }),
    };
  } finally {
    for (const fd of [writeEnd, input, ...procs]) closeSync(fd);
  }
}
