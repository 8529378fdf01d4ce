import { chmodSync, existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, type TestContext, test } from 'vitest';
import { readSnapshots } from '../../src/state/snapshots.ts';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
project: snaps
networks: { default: { mode: isolated } }
defaults: { memory: 64M }
volumes: { shared: }
machines:
  one: { image: debian-12, volumes: ["shared:/shared"] }
  two: { image: debian-12, depends_on: [one] }
`;

const inside = async (project: Fixture, machine: string, line: string): Promise<string> =>
  (await project.ok(['exec', machine, '--', 'sh', '-c', line])).stdout;

/** Brought up; a host that cannot freeze containers cannot save them while they run. */
async function running(context: TestContext, env: Readonly<Record<string, string>> = {}): Promise<Fixture> {
  const project = fixture({ 'Tsfile.yaml': tsfile }, env);
  await project.ok('up --quiet');
  if ((await project.tsv('pause --quiet one')).code !== 0) context.skip('containers cannot be paused here');
  await project.ok('unpause --quiet one');
  return project;
}

const saved = (project: Fixture, machine: string): readonly string[] => {
  const folder = join(project.dir, '.ts-vm', 'machines', machine, 'snapshots');
  return existsSync(folder) ? readdirSync(folder) : [];
};

describe('snapshots of containers', () => {
  test('bring back files with owners, links, attributes and what was deleted, of all machines together', async (context) => {
    const project = await running(context);
    const made =
      'mkdir -p /d/e; echo a >/d/f; ln /d/f /d/g; ln -s f /d/s; chown 5:6 /d/f; chmod 4711 /d/f; mkfifo /d/p; rm -r /etc/apt /etc/motd; mkdir /etc/apt';
    const look =
      'cd /d; stat -c "%n %u:%g %a %h %F" * ; readlink s; cat f; ls -A /etc/apt; test -e /etc/motd || echo gone';
    for (const machine of ['one', 'two']) await inside(project, machine, made);
    const before = await inside(project, 'one', look);
    expect(before).toMatch(/^e 0:0[\s\S]*f 5:6 4711 2[\s\S]*gone\n$/);
    const pid = project.machinePid('one');
    const { stderr } = await project.ok('snapshot save first');
    expect(stderr).toMatch(/files of one, two are in it, and no processes[\s\S]*one +not in it: volume shared/);
    expect(project.machinePid('one')).toBe(pid);

    for (const machine of ['one', 'two']) await inside(project, machine, 'rm -r /d; echo x >/etc/motd; echo new >/new');
    await inside(project, 'one', 'echo stays >/shared/file');
    await project.ok('halt --quiet two');
    await project.ok('snapshot restore first');
    expect(await project.states()).toEqual({ one: 'running', two: 'running' });
    for (const machine of ['one', 'two'])
      expect(await inside(project, machine, `${look}; ls /new 2>&1 || true`)).toContain(before);
    expect(await inside(project, 'one', 'ls /new || cat /shared/file')).toBe('stays\n');
    expect((await project.ok('up')).stderr).toMatch(/Everything is as the Tsfile says/);
    expect((await project.ok('events one')).stdout).toMatch(/saved as first[\s\S]*is what it was at first/);

    // One machine alone; what it was is not what the Tsfile says by now.
    await inside(project, 'one', 'rm -r /d');
    await inside(project, 'two', 'rm -r /d');
    project.edit((text) => text.replace('memory: 64M', 'memory: 65M'));
    await project.ok('up --quiet');
    const restored = await project.ok('snapshot restore first two');
    expect(restored.stderr).toMatch(/two +it is as it was then \(memory changed since\): tsv up/);
    expect(await inside(project, 'two', look)).toBe(before);
    expect((await project.tsv(['exec', 'one', '--', 'ls', '/d'])).code).not.toBe(0);
    expect((await project.tsv('plan')).stdout).toMatch(/two +adjust .*memory changed/);
  });

  test('are listed, replaced only when that is asked for, deleted, and go with their machines', async (context) => {
    const project = await running(context);
    await inside(project, 'one', 'echo 1 >/a');
    await project.ok('snapshot save first');
    const refused = await project.tsv('snapshot save first');
    expect(refused.stderr).toMatch(/TSV_USAGE[\s\S]*--force first/);
    const [before] = saved(project, 'one');
    await inside(project, 'one', 'echo 2 >/a');
    await project.ok('snapshot save --force first');
    expect(saved(project, 'one')).toHaveLength(1);
    expect(saved(project, 'one')).not.toEqual([before]);
    await project.ok('halt --quiet two');
    await project.ok('snapshot save halted two');
    const listed = JSON.parse((await project.ok('snapshot list --json')).stdout) as unknown;
    expect(listed).toMatchObject([
      {
        snapshot: 'first',
        machines: [
          { machine: 'one', kind: 'container', was: 'running', memory: false, without: ['volume shared'] },
          { machine: 'two', was: 'running' },
        ],
      },
      { snapshot: 'halted', machines: [{ machine: 'two', was: 'stopped' }] },
    ]);
    expect((await project.ok('snapshot list one')).stdout).toMatch(/^SNAPSHOT[^\n]*\nfirst [^\n]*\n$/);
    await project.ok('snapshot restore first one');
    expect(await inside(project, 'one', 'cat /a')).toBe('2\n');
    await project.ok('up --quiet');
    await project.ok('snapshot restore halted');
    expect((await project.states()).two).toBe('stopped');

    expect((await project.tsv('destroy --force two')).stderr).toMatch(
      /two +its 2 snapshots went with it: first, halted/,
    );
    expect((await project.ok('snapshot list -q')).stdout).toBe('first\n');
    await project.ok('snapshot delete first');
    expect((await project.ok('snapshot list')).stdout).toBe('no snapshots\n');
    expect(saved(project, 'one')).toEqual([]);
    expect((await project.tsv('snapshot restore first')).stderr).toMatch(/this project has no snapshot first/);
  });

  test('push and pop go back step by step', async (context) => {
    const project = await running(context);
    for (const step of ['1', '2']) {
      await inside(project, 'one', `echo ${step} >/a`);
      await project.ok('snapshot push --quiet');
    }
    await inside(project, 'one', 'echo 3 >/a');
    await project.ok('snapshot pop --no-delete');
    expect(await inside(project, 'one', 'cat /a')).toBe('2\n');
    await inside(project, 'one', 'echo 4 >/a');
    await project.ok('snapshot pop');
    expect(await inside(project, 'one', 'cat /a')).toBe('2\n');
    await project.ok('snapshot pop');
    expect(await inside(project, 'one', 'cat /a')).toBe('1\n');
    expect((await project.tsv('snapshot pop')).stderr).toMatch(/there is nothing to pop/);
    expect(saved(project, 'one')).toEqual([]);
  });

  test('whose making was killed are none: the machines go on, and the next save removes what was left', async (context) => {
    const bin = fixture({ cp: '#!/bin/sh\necho $$ >>"$CP_MARK"\nexec sleep 300\n' });
    chmodSync(join(bin.dir, 'cp'), 0o755);
    const mark = join(bin.dir, 'mark');
    const project = await running(context, { PATH: `${bin.dir}:${process.env.PATH}`, CP_MARK: mark });
    const usual = { env: { PATH: process.env.PATH ?? '' } };
    const save = project.start('snapshot save first');
    const copies = () => (existsSync(mark) ? readFileSync(mark, 'utf8').trim().split('\n') : []);
    await until('both are being copied', () => copies().length === 2);
    expect(project.state()?.machines.one?.saving).toMatch(/^tsv-/);
    await killNow(project.agentPid() ?? 0);
    expect((await save.result).code).not.toBe(0);
    for (const copy of copies()) await killNow(Number(copy));
    expect(readSnapshots(project.dir)).toEqual([]);
    expect(saved(project, 'one')).toEqual([expect.stringMatching(/^tsv-\w+\.new$/)]);

    expect((await project.ok('exec one -- echo goes on', usual)).stdout).toBe('goes on\n');
    expect(project.state()?.machines.one?.saving).toBeUndefined();
    await project.ok('snapshot save first', usual);
    expect(saved(project, 'one')).toEqual([expect.stringMatching(/^tsv-[0-9a-f]+$/)]);
    expect(readSnapshots(project.dir).map(({ name }) => name)).toEqual(['first']);

    // The same of a restore: what is half of then does not start.
    await inside(project, 'two', 'echo since >/since');
    await killNow(project.agentPid() ?? 0);
    const count = copies().length;
    const restore = project.start('snapshot restore first two');
    await until('it is being copied back', () => copies().length > count);
    await killNow(project.agentPid() ?? 0);
    expect((await restore.result).code).not.toBe(0);
    for (const copy of copies().slice(count)) await killNow(Number(copy));
    expect(await project.states()).toMatchObject({
      two: expect.stringMatching(/^stopped \(half set back: tsv snapshot restore first/),
    });
    expect((await project.tsv('up', usual)).stderr).toMatch(/TSV_SNAPSHOT[\s\S]*tsv snapshot restore first two/);
    expect((await project.tsv('snapshot delete first', usual)).stderr).toMatch(/two was being set back/);
    await project.ok('snapshot restore first two', usual);
    expect((await project.ok(['exec', 'two', '--', 'sh', '-c', 'ls /since || echo gone'], usual)).stdout).toBe(
      'gone\n',
    );
    expect((await project.ok('up', usual)).stderr).toMatch(/Everything is as the Tsfile says/);
  });

  test('of halted ones need no cgroup, and leave them halted', async () => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    await project.ok('up --quiet one');
    await inside(
      project,
      'one',
      'rm /etc/motd; rm -r /etc/apt; mkdir -m 750 /etc/apt; chown 7:8 /etc/apt; echo then >/note',
    );
    await project.ok('halt --quiet');
    await project.ok('snapshot save then');
    await project.ok('up --quiet one');
    await inside(project, 'one', 'echo x >/etc/motd; chown 0:0 /etc/apt; echo now >/note');
    await project.ok('snapshot restore then');
    expect(await project.states()).toMatchObject({ one: 'stopped' });
    await until('the agent has left', () => project.agentPid() === undefined);
    await project.ok('up --quiet one');
    const look = 'stat -c "%u:%g %a" /etc/apt; ls -A /etc/apt; cat /note; ls /etc/motd 2>/dev/null || echo gone';
    expect(await inside(project, 'one', look)).toBe('7:8 750\nthen\ngone\n');
    const asked = project.startOnTerminal('destroy one');
    await asked.prints(/Remove one with everything in them, and the snapshot then\? \[y\/N\]/);
    asked.write('y\n');
    expect((await asked.result).code).toBe(0);
  });
});
