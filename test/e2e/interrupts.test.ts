import { describe, expect, test } from 'vitest';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

/** `gated` waits in its provisioning step until somebody makes /open. */
const gated = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  plain: { image: debian-12 }
  gated:
    image: debian-12
    provision:
      - { name: first, shell: { inline: "echo first >>/log" } }
      - { name: gate, shell: { inline: "echo at the gate; while [ ! -e /open ]; do sleep 0.1; done; echo passed >>/log" } }
`;

async function finish(project: Fixture): Promise<void> {
  expect(['running', 'starting']).toContain((await project.states()).gated);
  await project.ok('up --no-provision');
  await project.ok('exec gated -- touch /open');
  await project.ok('up');
  expect((await project.ok('exec gated -- cat /log')).stdout).toBe('first\npassed\n');
  expect(await project.states()).toEqual({ plain: 'running', gated: 'running' });
}

describe('an interrupted up', () => {
  test('ends with exit code 130 at Ctrl-C, keeps a true state, and the next up finishes', async () => {
    const project = fixture({ 'Tsfile.yaml': gated });
    const up = project.startOnTerminal('up');
    await up.prints(/at the gate/);
    up.write('\x03');
    expect((await up.result).code).toBe(130);
    expect((await project.status()).inProgress).toBeUndefined();
    expect(Object.keys(project.state()?.machines.gated?.steps ?? {})).toEqual(['first']);
    // What it ran in the machine has ended with it.
    await until(
      'the step has ended',
      async () =>
        (
          await project.tsv([
            'exec',
            'gated',
            '--',
            'sh',
            '-c',
            'cat /proc/[0-9]*/cmdline 2>/dev/null | tr "\\0" " " | grep -q "at the [g]ate"',
          ])
        ).code === 1,
    );
    await finish(project);
  });

  test('ends with exit code 130 at a second signal, at once', async () => {
    const project = fixture({ 'Tsfile.yaml': gated });
    const up = project.start('up', { input: '' });
    await up.prints(/at the gate/);
    up.signal('SIGINT');
    up.signal('SIGINT');
    expect((await up.result).code).toBe(130);
    await until('the agent has nothing in hand', async () => (await project.status()).inProgress === undefined);
    await finish(project);
  });

  test('is finished by the next one when the command was killed', async () => {
    const project = fixture({ 'Tsfile.yaml': gated });
    const up = project.start('up', { input: '' });
    await up.prints(/at the gate/);
    await killNow(up.pid);
    await until('the agent has nothing in hand', async () => (await project.status()).inProgress === undefined);
    await finish(project);
  });

  test('is finished by the next one when the agent was killed', async () => {
    const project = fixture({ 'Tsfile.yaml': gated });
    const up = project.start('up', { input: '' });
    await up.prints(/at the gate/);
    await killNow(project.agentPid() ?? 0);
    const { code, stderr } = await up.result;
    expect(code).toBe(1);
    expect(stderr).toContain('agent');
    await finish(project);
  });
});

const steps = [
  'network.ensure default',
  'machine.create a',
  'machine.start a',
  'machine.wait a',
  'machine.provision a/only',
];
const chain = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
  a: { image: debian-12, provision: [{ name: only, shell: { inline: "echo done >>/log" } }] }
  b: { image: debian-12 }
`;

describe.each(['command', 'agent'] as const)('when the %s is killed', (victim) => {
  test.each(
    steps.flatMap((step) => [
      { step, phase: 'start' },
      { step, phase: 'done' },
    ]),
  )('at the $phase of $step, status is true, up repairs and destroy removes everything', async ({ step, phase }) => {
    const project = fixture({ 'Tsfile.yaml': chain });
    const up = project.start('up', { input: '' });
    const reached = () =>
      project.journal().some((entry) => entry.step.startsWith(step.split('/')[0] ?? step) && entry.phase === phase);
    await until(`${phase} of ${step}`, reached, {
      everyMs: 2,
      timeoutMs: 30_000,
      seen: () => JSON.stringify(project.journal()),
    });
    const pid = victim === 'command' ? up.pid : project.agentPid();
    if (pid !== undefined) await killNow(pid).catch(() => {}); // it may have ended by itself just now
    await up.result;
    await until('nobody works on the project', async () => (await project.status()).inProgress === undefined);
    const { machines } = await project.status();
    for (const { machine, state } of machines) {
      const alive = ['running', 'starting'].includes(state);
      expect(alive, `${machine} is ${state}`).toBe((await project.tsv(['exec', machine, '--', 'true'])).code === 0);
    }
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running', b: 'running' });
    expect((await project.ok('exec a -- cat /log')).stdout).toMatch(/^(done\n){1,2}$/);
    await project.ok('destroy -f');
    await project.expectNothingLeft();
  });
});
