import { existsSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import type { Timings } from '../../src/model/timings.ts';
import { printAction } from '../../src/plan/print.ts';
import { fixture, freePort } from '../support/fixture.ts';
import { openFiles } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

const two = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  a: { image: debian-12 }
  b: { image: debian-12 }
`;

describe('the life of a project', () => {
  test('projects that come and go at the same time leave the host as it was', async () => {
    const projects = Array.from({ length: 5 }, () => fixture({ 'Tsfile.yaml': two.replace('isolated', 'nat') }));
    await Promise.all(
      projects.map(async (project) => {
        for (let round = 0; round < 3; round++) {
          await project.ok('up');
          await project.ok('halt');
        }
        await project.ok('destroy -f');
      }),
    );
    for (const project of projects) await project.expectNothingLeft();
  });

  test('--timings tells where the time went, in a table, as JSON, and when something failed', async () => {
    const project = fixture({
      'Tsfile.yaml': two.replace(
        'b: { image: debian-12 }',
        'b: { image: debian-12, depends_on: [a], provision: [{ name: fails, shell: { inline: exit 3 } }] }',
      ),
    });
    const { stderr } = await project.ok('up a --timings');
    expect(stderr).toMatch(/^WHERE +WHAT +TOOK +CRITICAL\ntsv +start of tsv +\d/m);
    expect(stderr).toMatch(/^network +set up default +[\d.]+m?s +\*$/m);
    expect(stderr).toMatch(/^a +start +[\d.]+m?s +\*\na +wait until reachable/m);
    expect(stderr).toMatch(/^Critical path: [\d.]+m?s of [\d.]+m?s$/m);
    const failed = await project.tsv('up --timings --json');
    expect(failed.code).toBe(1);
    const lines = failed.stdout.trimEnd().split('\n');
    const [timings, last] = lines.slice(-2).map((line) => JSON.parse(line) as Record<string, unknown>);
    expect(last).toMatchObject({ type: 'end', ok: false });
    const { phases, criticalMs, wallMs } = timings as unknown as { type: 'timings' } & Timings;
    expect(phases.map((phase) => ('what' in phase ? phase.what : printAction(phase.action)))).toEqual([
      'start of tsv',
      'Tsfile and plan',
      'boxes and images',
      'agent',
      'look and plan',
      'box.ensure debian-12 container',
      'machine.create b',
      'machine.start b',
      'machine.wait b',
      'machine.provision b fails',
    ]);
    expect(phases.at(-1)).toMatchObject({ outcome: 'failed', critical: true });
    expect(criticalMs).toBe(phases.reduce((sum, { critical, ms }) => sum + (critical ? ms : 0), 0));
    expect(criticalMs).toBeLessThanOrEqual(wallMs + phases.length); // each is rounded
    expect((await project.ok('up a --json')).stdout).not.toContain('timing');
    expect((await project.ok('destroy -fq --timings')).stderr).toMatch(/^b +destroy +[\d.]+m?s/m);
  });

  test('F35 twenty machines at once, again and again, cost the agent nothing and leave nothing behind', async () => {
    const twenty = two.replace('b: { image: debian-12 }', 'b: { image: debian-12, replicas: 20 }');
    const project = fixture({ 'Tsfile.yaml': twenty });
    await project.ok('up a');
    const agent = project.agentPid() ?? 0;
    const open: number[] = [];
    for (let cycle = 0; cycle < 5; cycle++) {
      await project.ok('up b --parallel 20');
      expect(Object.values(await project.states())).toEqual(Array(21).fill('running'));
      await project.ok('destroy -f b');
      open.push(openFiles(agent).length);
    }
    expect(project.agentPid()).toBe(agent);
    expect((open.at(-1) ?? Infinity) - (open[0] ?? 0), `descriptors: ${open.join(', ')}`).toBeLessThanOrEqual(5);
    await project.ok('destroy -f');
    await project.expectNothingLeft();
  });

  test('halt stops machines and keeps their disks; up starts them again', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo kept >/kept']);
    const address = project.state()?.machines.a?.addresses[0]?.address;
    await project.ok('halt a');
    expect(await project.states()).toEqual({ a: 'stopped', b: 'running' });
    const refused = await project.tsv('exec a -- true');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(/a is not running[\s\S]*tsv up a/);
    await project.ok('halt');
    await until('the agent leaves when no machine runs', () => project.agentPid() === undefined);
    await project.ok('up');
    expect((await project.ok('exec a -- cat /kept')).stdout).toBe('kept\n');
    expect(project.state()?.machines.a?.addresses[0]?.address).toBe(address);
  });

  test('F21 a container that ignores its stop signal is killed when its time is up, and halt says so', async () => {
    const project = fixture({
      'Tsfile.yaml': two.replace(
        'a: { image: debian-12 }',
        `a: { image: debian-12, stop_timeout: 500ms, command: "trap '' TERM; echo deaf; while :; do sleep 1; done" }`,
      ),
    });
    await project.ok('up');
    await until('it ignores the signal', async () => (await project.ok('logs a')).stdout.includes('deaf'));
    const { stderr } = await project.ok('halt');
    expect(stderr).toMatch(/^a +warning: it had not ended 0.5 s after SIGTERM, and was killed$/m);
    expect(stderr).not.toMatch(/^b +warning/m);
    expect(await project.states()).toEqual({ a: 'stopped', b: 'stopped' });
  });

  test('reload restarts a machine with what changed in the Tsfile', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    const [a, b] = [project.machinePid('a'), project.machinePid('b')];
    project.edit((text) => text.replace('a: { image: debian-12 }', 'a: { image: debian-12, env: { NEW: "1" } }'));
    const plan = await project.tsv('plan');
    expect(plan.code).toBe(2);
    expect(plan.stdout).toMatch(/^~ a .*env changed$/m);
    expect(plan.stdout).not.toContain(' b ');
    await project.ok('reload a');
    expect((await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo $NEW'])).stdout).toBe('1\n');
    expect(project.machinePid('a')).not.toBe(a);
    expect(project.machinePid('b')).toBe(b);
  });

  test('up adds machines, and destroy removes one or all', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up a');
    expect(await project.states()).toEqual({ a: 'running', b: 'not created' });
    await project.ok('up');
    await project.ok('destroy -f a');
    expect(await project.states()).toEqual({ a: 'not created', b: 'running' });
    await project.ok('destroy -f');
    expect(await project.states()).toEqual({ a: 'not created', b: 'not created' });
    expect(existsSync(join(project.dir, '.ts-vm', 'machines', 'b'))).toBe(false);
    await project.expectNothingLeft();
  });

  test('destroy works from the state when the Tsfile is gone or names other machines', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    project.write('Tsfile.yaml', 'version: 1\nmachines: {');
    expect((await project.tsv('up')).code).toBe(1);
    expect((await project.states()).a).toBe('running');
    await project.ok('destroy -f');
    await project.expectNothingLeft();
  });

  test('destroy asks, and takes only yes for an answer', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    await project.ok('up');
    expect((await project.tsv('destroy')).stderr).toMatch(/no terminal[\s\S]*tsv destroy --force/);
    const asked = project.startOnTerminal('destroy');
    await asked.prints(/Remove a, b .*\[y\/N\]/);
    asked.write('\n');
    expect((await asked.result).code).toBe(1);
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
    const confirmed = project.startOnTerminal('destroy');
    await confirmed.prints(/\[y\/N\]/);
    confirmed.write('y\n');
    expect((await confirmed.result).code).toBe(0);
    await project.expectNothingLeft();
  });

  test('two simultaneous ups behave as one after the other', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    const [first, second] = await Promise.all([project.tsv('up'), project.tsv('up')]);
    expect([first.code, second.code], first.stderr + second.stderr).toEqual([0, 0]);
    const started = project.journal().filter(({ step, phase }) => step === 'machine.start a' && phase === 'done');
    expect(started).toHaveLength(1);
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
  });

  test('status during an up says what runs, and does not wait for it', async () => {
    const project = fixture({
      'Tsfile.yaml': two.replace(
        'b: { image: debian-12 }',
        'b: { image: debian-12, provision: [{ name: gate, shell: { inline: "echo at the gate; while [ ! -e /open ]; do sleep 0.1; done" } }] }',
      ),
    });
    const up = project.start('up', { input: '' });
    await up.prints(/at the gate/);
    const { inProgress } = await project.status();
    expect(inProgress?.command).toBe('tsv up');
    await project.ok('exec b -- touch /open');
    expect((await up.result).code).toBe(0);
    expect((await project.status()).inProgress).toBeUndefined();
  });

  test('two projects may use the same subnet at the same time', async () => {
    const text = two.replace('mode: isolated', 'mode: isolated, subnet: 10.99.8.0/24');
    const [one, other] = [fixture({ 'Tsfile.yaml': text }), fixture({ 'Tsfile.yaml': text })];
    await Promise.all([one.ok('up'), other.ok('up')]);
    expect(one.state()?.machines.a?.addresses[0]?.address).toBe(other.state()?.machines.a?.addresses[0]?.address);
    await one.ok('destroy -f');
    expect(await other.states()).toEqual({ a: 'running', b: 'running' });
  });

  test('a taken port is found, with the name of the program that holds it, and the next up goes on', async () => {
    const port = await freePort();
    const project = fixture({
      'Tsfile.yaml': two.replace('a: { image: debian-12 }', `a: { image: debian-12, forwards: ["${port}:80"] }`),
    });
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
    onTestFinished(() => void server.close());
    const { code, stderr } = await project.tsv('up');
    expect(code).toBe(1);
    expect(stderr).toMatch(new RegExp(`port ${port} of 127\\.0\\.0\\.1.*in use by .*\\(pid ${process.pid}\\)`));
    await new Promise((resolve) => server.close(resolve));
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
  });

  test('machine-readable output is JSON on every line, and nothing else goes to standard output', async () => {
    const project = fixture({ 'Tsfile.yaml': two });
    const { stdout } = await project.ok('up --json');
    const events = stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as { type: string; ok?: boolean });
    expect(events[0]?.type).toBe('plan');
    expect(events.at(-1)).toMatchObject({ type: 'end', ok: true });
    expect((await project.ok('destroy -f --quiet')).stdout).toBe('');
  });
});
