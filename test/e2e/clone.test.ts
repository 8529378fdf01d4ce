import { chmodSync, existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { killNow, tsvProgram } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { isRoot } from '../support/root.ts';
import { until } from '../support/until.ts';

/** Disks of containers need root. */
const disk = (more = '') => (isRoot ? `, disks: [{ name: data, size: 16M, mount: /data${more} }]` : '');
const once = '{ name: once, shell: { inline: "echo run >>/runs" } }';
const tsfile = `
version: 1
project: copies
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  web: { image: debian-12, provision: [${once}]${disk()} }
  db: { image: debian-12 }
`;
const copy = `  copy: { image: debian-12, hostname: second, memory: 96M, depends_on: [db], provision: [${once}, { name: more, shell: { inline: "echo more >>/runs" } }]${disk(', keep: true')} }\n`;

const folders = (project: Fixture): readonly string[] => readdirSync(join(project.dir, '.ts-vm/machines')).toSorted();

describe('tsv clone', () => {
  test('makes a container that is new in the Tsfile as a copy of a halted one: its files and steps, as somebody else', async () => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    const inside = async (name: string, line: string) =>
      (await project.ok(['exec', name, '--', 'sh', '-ec', line])).stdout;
    const plan = async () => {
      const { nodes } = JSON.parse((await project.tsv('plan --json')).stdout) as {
        nodes: { action: { do: string; machine?: string; step?: string } }[];
      };
      return nodes.flatMap(({ action }) =>
        action.machine === 'copy' ? [`${action.do} ${action.step ?? ''}`.trim()] : [],
      );
    };
    const refused = async (why: RegExp) => {
      const { code, stderr } = await project.tsv('clone web copy');
      expect(stderr).toMatch(why);
      expect(code).toBe(1);
      expect(project.state()?.machines).not.toHaveProperty('copy');
    };
    await project.ok('up');
    await inside(
      'web',
      'rm /etc/motd; mkdir -m 750 /own; echo kept >/own/file; ln /own/file /own/link; chown 7:8 /own',
    );
    if (isRoot) await inside('web', 'echo disk >/data/file');
    const key = (name: string) => readFileSync(String(project.state()?.machines[name]?.provider.identityFile), 'utf8');
    const before = project.state()?.machines.web;

    await refused(/copy is not in the Tsfile[\s\S]*write copy beside web/);
    project.edit((text) => text + copy);
    await refused(/web is running[\s\S]*tsv halt web/);
    await project.ok('halt --force web');
    await project.ok('snapshot save then web');
    const db = project.machinePid('db');
    expect((await project.ok('clone web copy')).stderr).toMatch(
      /\ncopy +copied from web[^\n]*\ntsv up copy starts it\n$/,
    );

    expect(await project.states()).toEqual({ web: 'stopped', db: 'running', copy: 'stopped' });
    expect(folders(project)).toEqual(['copy', 'db', 'web']);
    expect(existsSync(join(project.dir, '.ts-vm/machines/copy/snapshots'))).toBe(false);
    expect((await project.ok('events copy')).stdout).toMatch(/ {2}copy {2}created as a copy of web\n$/);
    expect(project.journal().at(-1)).toMatchObject({
      command: 'clone',
      step: 'machine.clone copy from web',
      phase: 'done',
    });
    expect(await plan()).toEqual(['machine.start', 'machine.wait', 'machine.provision more']);
    expect((await project.tsv('clone web copy')).stderr).toMatch(/copy exists already/);

    await project.ok('up');
    expect(await inside('copy', 'uname -n; cat /runs /own/link; stat -c "%u:%g %a" /own; stat -c %h /own/file')).toBe(
      'second\nrun\nmore\nkept\n7:8 750\n2\n',
    );
    expect(await inside('copy', 'ls /etc/motd 2>/dev/null || echo gone')).toBe('gone\n');
    if (isRoot) {
      expect(await inside('copy', 'cat /data/file; echo other >/data/file')).toBe('disk\n');
      expect(existsSync(join(project.dir, '.ts-vm/disks/copy/data.img'))).toBe(true);
      expect(await inside('web', 'cat /data/file')).toBe('disk\n');
    }
    await inside('copy', 'echo changed >/own/file');
    expect(await inside('web', 'uname -n; cat /runs /own/file')).toBe('web\nrun\nkept\n');
    const { web, copy: made } = project.state()?.machines ?? {};
    expect(web).toMatchObject({
      addresses: before?.addresses,
      provider: before?.provider,
      createdAt: before?.createdAt,
    });
    for (const field of ['address', 'mac'] as const)
      expect(made?.addresses[0]?.[field]).not.toBe(before?.addresses[0]?.[field]);
    expect(made?.provider.hostKey).not.toBe(before?.provider.hostKey);
    expect(key('copy')).not.toBe(key('web'));
    writeFileSync(join(project.dir, 'ssh.conf'), (await project.ok('ssh-config copy')).stdout);
    expect((await project.run(['ssh', '-F', 'ssh.conf', 'copy', 'uname', '-n'])).stdout).toBe('second\n');
    expect(project.machinePid('db')).toBe(db);
    expect((await project.ok('up')).stderr).toMatch(/Everything is as the Tsfile says/);
  });

  test('that is interrupted, killed, or finds no room leaves no copy; the next one makes it', async () => {
    const bin = fixture({ cp: '#!/bin/sh\necho $$ >>"$CP_MARK"\nexec sleep 300\n' });
    chmodSync(join(bin.dir, 'cp'), 0o755);
    const mark = join(bin.dir, 'mark');
    const hangs = { env: { PATH: `${bin.dir}:${process.env.PATH}`, CP_MARK: mark } };
    const copies = () => (existsSync(mark) ? readFileSync(mark, 'utf8').trim().split('\n') : []);
    const project = fixture({ 'Tsfile.yaml': tsfile + copy });
    await project.ok('up --quiet web');
    await project.ok(['exec', 'web', '--', 'sh', '-c', 'head -c 3M /dev/zero | tr "\\0" x >/large']);
    await project.ok('halt --quiet');
    const agentLeaves = () => until('the agent has left', () => project.agentPid() === undefined);
    const nothing = () => {
      expect(folders(project)).toEqual(['web']);
      expect(Object.keys(project.state()?.machines ?? {})).toEqual(['web']);
    };

    await agentLeaves();
    const limited = ['prlimit', '--fsize=2000000', process.execPath, tsvProgram, 'clone', 'web', 'copy'];
    const { code, stderr } = await project.run(limited);
    expect({ code, stderr }).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/could not be copied \[TSV_CLONE\]/),
    });
    nothing();

    await agentLeaves();
    const interrupted = project.start('clone web copy', hangs);
    await until('it is being copied', () => copies().length === 1);
    interrupted.signal('SIGINT');
    expect((await interrupted.result).code).toBe(130);
    nothing();

    await agentLeaves();
    const killed = project.start('clone web copy', hangs);
    await until('it is being copied', () => copies().length === 2);
    await killNow(project.agentPid() ?? 0);
    expect((await killed.result).code).toBe(1);
    await killNow(Number(copies().at(-1)));
    expect(folders(project)).toEqual([expect.stringMatching(/^copy\.[0-9a-f]{8}$/), 'web']);

    await project.ok('clone --quiet web copy');
    expect(folders(project)).toEqual(['copy', 'web']);
    await project.ok('up --quiet copy');
    expect((await project.ok('exec copy -- stat -c %s /large')).stdout).toBe(`${3 << 20}\n`);
  });
});
