import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { accessSync, constants, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildSync } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { ensureRunDir, runPaths } from '../../src/state/paths.ts';
import { findLeaks, type Snapshot, takeSnapshot } from '../support/leaks.ts';

const folder = mkdtempSync(join(tmpdir(), 'leaks-'));
const program = join(folder, 'plant.mjs');

beforeAll(() => {
  buildSync({
    stdin: { contents: plant, resolveDir: join(import.meta.dirname, '..', 'support'), loader: 'ts' },
    bundle: true,
    platform: 'node',
    format: 'esm',
    outfile: program,
  });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** What the names of a project's interface and firewall table on the host end with. */
const hash = createHash('sha256').update('planted').digest('hex').slice(0, 8);

/** Plants what the arguments say, looks before and after, and prints what is new. What was planted ends with it. */
const plant = `
import { execFileSync, spawn } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { createServer } from 'node:net';
import { findLeaks, takeSnapshot } from './leaks.ts';
import { until } from './until.ts';

const [folder, ...things] = process.argv.slice(2);
const scope = { folders: [folder], projects: ['planted'], projectIds: ['planted'] };
const before = takeSnapshot();
const planted = [];
const run = (...argv) => execFileSync(argv[0], argv.slice(1), { stdio: ['ignore', 'ignore', 'inherit'] });
for (const thing of things) {
  if (thing === 'process') planted.push(spawn('sleep', ['1001'], { env: { PATH: process.env.PATH, TSV_ID: 'tsv:planted' }, cwd: '/' }));
  if (thing === 'namespace') planted.push(spawn('unshare', ['--user', '--net', 'sleep', '1002'], { cwd: '/' }));
  if (thing === 'interface') run('ip', 'link', 'add', 'tsv-${hash}', 'type', 'bridge');
  if (thing === 'route') { run('ip', 'link', 'set', 'tsv-${hash}', 'up'); run('ip', 'route', 'add', '203.0.113.0/24', 'dev', 'tsv-${hash}'); }
  if (thing === 'table') run('nft', 'add', 'table', 'ip', 'tsv_${hash}');
  if (thing === 'mount') { mkdirSync(folder + '/.ts-vm/rootfs', { recursive: true }); run('mount', '-t', 'tmpfs', 'none', folder + '/.ts-vm/rootfs'); }
  if (thing === 'forwarding') run('sh', '-c', 'read v </proc/sys/net/ipv4/ip_forward; echo $((1 - v)) >/proc/sys/net/ipv4/ip_forward');
  if (thing === 'socket') { const server = createServer().listen('\\0tsv-planted'); planted.push({ kill: () => server.close() }); await new Promise((done) => server.once('listening', done)); }
}
const expected = things.length;
let leaks = [];
await until('something shows', () => { leaks = findLeaks(before, takeSnapshot(), scope); return leaks.length >= expected; }).catch(() => {});
for (const process of planted) process.kill('SIGKILL');
console.log(JSON.stringify(leaks));
`;

const isRoot = process.getuid?.() === 0;
const apart = ['unshare', ...(isRoot ? [] : ['--user', '--map-root-user']), '--net', '--mount'];

const leaksAfter = (...things: string[]): string[] => {
  const [file = '', ...args] = [...apart, process.execPath, program, folder, ...things];
  const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  return JSON.parse(execFileSync(file, args, { encoding: 'utf8', env })) as string[];
};

describe('the leak oracle', () => {
  test('finds a process that carries TSV_ID', () => {
    expect(leaksAfter('process')).toContainEqual(
      expect.stringMatching(/^processes: sleep 1001 \(pid \d+.*TSV_ID=tsv:planted/),
    );
  });

  test('finds a network namespace, and says who is in it', () => {
    expect(leaksAfter('namespace')).toContainEqual(
      expect.stringMatching(/^network namespaces: net:\[\d+\] of sleep \d+/),
    );
  });

  test('finds an interface, its route and a firewall table', () => {
    const leaks = leaksAfter('interface', 'route', 'table').join('\n');
    expect(leaks).toContain(`links: tsv-${hash}`);
    expect(leaks).toContain(`routes: 203.0.113.0/24 dev tsv-${hash}`);
    expect(leaks).toMatch(new RegExp(`nft: .*tsv_${hash}`));
  });

  test('finds a mount below a state folder', () => {
    expect(leaksAfter('mount')).toContainEqual(expect.stringContaining(`mounts: ${folder}/.ts-vm/rootfs (tmpfs`));
  });

  test('finds a switched sysctl', () => {
    expect(leaksAfter('forwarding')).toContainEqual(
      expect.stringMatching(/^sysctls: net\.ipv4\.ip_forward is [01] now$/),
    );
  });

  test('finds a socket', () => {
    expect(leaksAfter('socket')).toContain('sockets: @tsv-planted');
  });

  test('knows whose agent listens on a socket', async () => {
    const project = join(folder, 'theirs');
    mkdirSync(project);
    const before = takeSnapshot();
    const run = ensureRunDir(project, process.env);
    const { agentSocket } = runPaths(run);
    const server = createServer().listen(agentSocket);
    try {
      await once(server, 'listening');
      const after = takeSnapshot();
      const leaksOf = (folders: string[]) =>
        findLeaks(before, after, { folders, projects: [], projectIds: [] }).filter((leak) => leak.includes(run));
      expect(leaksOf([project])).toEqual([
        `run folders: ${run}`,
        `run folders: ${agentSocket}`,
        `sockets: ${agentSocket}`,
      ]);
      expect(leaksOf([join(folder, 'ours')])).toEqual([]);
    } finally {
      server.close();
      rmSync(run, { recursive: true });
    }
  });

  const cgroups = writableCgroup();
  test.skipIf(cgroups === undefined)('finds a cgroup', () => {
    const before = takeSnapshot();
    const path = join(cgroups ?? '', 'tsv', 'planted');
    mkdirSync(path, { recursive: true });
    try {
      const scope = { folders: [], projects: [], projectIds: ['planted'] };
      expect(findLeaks(before, takeSnapshot(), scope)).toContain(`cgroups: ${path}`);
    } finally {
      rmdirSync(path);
    }
  });

  test('leaves out what is provably of another project', () => {
    const before = takeSnapshot();
    const planted = {
      '1/1': { what: 'theirs', clues: ['project:theirs'] },
      '2/2': { what: 'ours', clues: ['project:ours'] },
      '3/3': { what: 'nobody knows', clues: [] },
    };
    const after: Snapshot = {
      ...before,
      traces: { ...before.traces, processes: { ...before.traces.processes, ...planted } },
    };
    const scope = { folders: ['/tmp/ours'], projects: ['ours'], projectIds: [] };
    expect(findLeaks(before, after, scope)).toEqual(['processes: ours', 'processes: nobody knows']);
  });

  test('finds nothing where nothing was planted', () => {
    const leaks = leaksAfter();
    // Others may start something at this moment; none of what the tests above plant is among it.
    expect(leaks.filter((leak) => /planted|sleep 100[12]|tsv[-_]|sysctls/.test(leak))).toEqual([]);
  });
});

/** A hierarchy in which this user may make folders. */
function writableCgroup(): string | undefined {
  const mounts = readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter((line) => / - cgroup2? /.test(line));
  return mounts
    .map((line) => line.split(' ')[4] ?? '')
    .find((path) => {
      try {
        accessSync(path, constants.W_OK);
        return true;
      } catch {
        return false;
      }
    });
}
