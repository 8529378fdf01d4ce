import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
project: names
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  web:
    image: debian-12
    provision: [{ name: once, shell: { inline: "echo run >>/runs" } }]
  db: { image: debian-12, depends_on: [web] }
`;

describe('tsv rename', () => {
  test('keeps a halted container with its files, address, keys and steps, under the name that the Tsfile has now', async () => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    await project.ok('up');
    const [web, front] = ['web', 'front'].map((name) => join(project.dir, '.ts-vm', 'machines', name));
    const before = project.state()?.machines.web;
    const keyOf = (name: string) =>
      readFileSync(String(project.state()?.machines[name]?.provider.identityFile), 'utf8');
    const key = keyOf('web');
    const refused = async (why: RegExp) => {
      const { code, stderr } = await project.tsv('rename web front');
      expect(stderr).toMatch(why);
      expect(code).toBe(1);
      expect(project.state()?.machines.web?.spec.name).toBe('web');
    };

    await refused(/front is not in it[\s\S]*web is still in it[\s\S]*write front for web/);
    project.edit((text) => text.replace('  web:', '  front:').replace('[web]', '[front]'));
    await refused(/web is running[\s\S]*tsv halt web/);
    const db = project.machinePid('db');
    await project.ok('halt --force web');
    await project.ok('rename web front');

    expect(await project.states()).toEqual({ front: 'stopped', db: 'running' });
    expect([web, front].map((folder) => existsSync(folder ?? ''))).toEqual([false, true]);
    const found = async (name: string) => (await project.tsv(['exec', 'db', '--', 'getent', 'hosts', name])).stdout;
    await until('its new name is known', async () =>
      (await found('front')).includes(before?.addresses[0]?.address ?? '-'),
    );
    expect(await found('web')).toBe('');
    expect((await project.ok('events front')).stdout).toMatch(/ {2}front {2}renamed, was web\n$/);
    expect(project.journal().at(-1)).toMatchObject({
      command: 'rename',
      step: 'machine.rename web to front',
      phase: 'done',
    });
    const steps = JSON.parse((await project.tsv('plan --json')).stdout) as { nodes: { action: { do: string } }[] };
    expect(steps.nodes.map(({ action }) => action.do)).toEqual(['machine.start', 'machine.wait']);

    await project.ok('up');
    const after = project.state()?.machines.front;
    expect(after).toMatchObject({ addresses: before?.addresses, steps: before?.steps, createdAt: before?.createdAt });
    expect(project.machinePid('db')).toBe(db);
    expect((await project.ok(['exec', 'front', '--', 'sh', '-c', 'uname -n; cat /runs'])).stdout).toBe('front\nrun\n');
    expect(keyOf('front')).toBe(key);
    writeFileSync(join(project.dir, 'ssh.conf'), (await project.ok('ssh-config front')).stdout);
    expect((await project.run(['ssh', '-F', 'ssh.conf', 'front', 'uname', '-n'])).stdout).toBe('front\n');
    expect((await project.ok('up')).stderr).toMatch(/Everything is as the Tsfile says/);
  });

  test.each([
    ['before', 'the folder has its new name'],
    ['after', 'the folder has its new name, and before the state knows that'],
  ])('that was cut short %s %s is finished by the next command', async (when) => {
    const project = fixture({ 'Tsfile.yaml': tsfile });
    await project.ok('up web');
    await project.ok(['exec', 'web', '--', 'sh', '-c', 'echo kept >/kept']);
    await project.ok('halt --force');
    await until('the agent is gone', () => project.agentPid() === undefined);
    project.edit((text) => text.replace('  web:', '  front:').replace('[web]', '[front]'));
    const [{ web, ...machines } = {}, rest] = [project.state()?.machines, project.state()];
    if (web === undefined) throw new Error('web is not in the state');
    const record = {
      ...web,
      spec: { ...web.spec, name: 'front', group: 'front', hostname: 'front' },
      movingFrom: 'web',
    };
    const stateDir = join(project.dir, '.ts-vm');
    writeFileSync(join(stateDir, 'state.json'), JSON.stringify({ ...rest, machines: { front: record, ...machines } }));
    if (when === 'after') renameSync(join(stateDir, 'machines', 'web'), join(stateDir, 'machines', 'front'));

    expect(await project.states()).toMatchObject({ front: 'stopped' });
    expect((await project.ok('logs front')).stdout).toBe('');
    await project.ok('up front');
    expect((await project.ok('exec front -- cat /kept /runs')).stdout).toBe('kept\nrun\n');
    expect(project.state()?.machines.front?.movingFrom).toBeUndefined();
    expect(existsSync(join(stateDir, 'machines', 'web'))).toBe(false);
  });
});
