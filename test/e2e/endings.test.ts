import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { readEvents } from '../../src/state/events.ts';
import { get, killNow } from '../support/cli.ts';
import { type Fixture, fixture, freePort } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const head = `
version: 1
defaults: { memory: 64M }
networks: { default: { mode: isolated } }
machines:
`;
const one = (machine: string): Readonly<Record<string, string>> => ({
  'Tsfile.yaml': `${head}  a: { image: debian-12, ${machine} }\n`,
});

/** What happened to machine a, oldest first. */
const happened = (project: Fixture): string[] =>
  readEvents(project.dir).flatMap(({ machine, event }) => (machine === 'a' ? [event.type] : []));

describe('how a machine ended', () => {
  test('is told by status: with its exit code, or its signal', async () => {
    const project = fixture({
      'Tsfile.yaml': `${head}  a: { image: debian-12, command: "exit 3" }\n  b: { image: debian-12, command: "sleep 1000" }\n`,
    });
    await project.tsv('up');
    await killNow(project.machinePid('b'));
    await until('how b ended is known', async () => (await project.states()).b === 'stopped (killed by SIGKILL)');
    expect((await project.states()).a).toBe('stopped (ended with 3)');
    const { machines } = await project.status();
    expect(machines.map(({ ended }) => ended)).toMatchObject([
      { why: 'exited', code: 3 },
      { why: 'killed', signal: 'KILL' },
    ]);
  });

  test('is known though its agent was dead by then, before and after another one is there', async () => {
    const project = fixture(one(`command: "trap 'exit 7' TERM; touch /ready; while :; do sleep 1000 & wait; done"`));
    await project.ok('up');
    await until('it would hear', async () => (await project.tsv('exec a -- test -e /ready')).code === 0);
    const pid = project.machinePid('a');
    await killNow(project.agentPid() ?? 0);
    await killNow(pid, 'SIGTERM');
    expect((await project.states()).a).toBe('stopped (ended with 7)');
    expect(project.agentPid()).toBeUndefined();
    const plan = await project.tsv('plan');
    expect(plan.stdout).toContain('ended with 7');
    await project.ok('up');
    expect(await project.states()).toEqual({ a: 'running' });
    expect(happened(project)).toContain('ended');
  });

  test('is lost with its keeper, and told so', async () => {
    const project = fixture(one('command: "sleep 1000"'));
    await project.ok('up');
    const pid = project.machinePid('a');
    await killNow(parentOf(pid));
    await killNow(pid);
    await until('it is gone', async () => (await project.states()).a !== 'running');
    expect((await project.states()).a).toBe('stopped (ended, and nobody saw how)');
  });

  test('is for want of memory where the kernel says so', async (context) => {
    const project = fixture(
      one(`command: "until test -e /go; do sleep 0.1; done; exec perl -e 'my $x = 1 x 200_000_000; sleep'"`),
    );
    const up = await project.ok('up');
    if (up.stderr.includes('no limit on memory')) return context.skip('no cgroup for memory here');
    await project.ok('exec a -- touch /go');
    await until('it is gone', async () => (await project.states()).a !== 'running');
    expect((await project.states()).a).toBe('stopped (out of memory)');
  });
});

describe('a machine that ends by itself', () => {
  test('is started again always, with its files, forwards and address, until it is halted', async () => {
    const port = await freePort();
    const serve =
      'use IO::Socket; my $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die; ' +
      'while (my $c = $s->accept) { <$c>; open my $f, "<", "/kept"; print $c "HTTP/1.0 200 OK\\r\\n\\r\\n", <$f>; close $c }';
    const project = fixture(
      one(`command: [perl, -e, '${serve}'], restart: always, stop_timeout: 1s, forwards: ["${port}:8000"]`),
    );
    await project.ok('up');
    await project.ok(['exec', 'a', '--', 'sh', '-c', 'echo kept >/kept']);
    const first = project.machinePid('a');
    await killNow(first);
    await until('it runs again', () => happened(project).filter((type) => type === 'ready').length === 2);
    expect(project.machinePid('a')).not.toBe(first);
    expect((await project.states()).a).toBe('running (restarted once)');
    await until('its port answers', async () => (await get(port).catch(() => '')) === 'kept\n');
    expect((await project.ok('plan')).stdout).toBe('nothing to do\n');
    await project.ok('halt');
    expect(await project.states()).toEqual({ a: 'stopped' });
    await until('the agent leaves', () => project.agentPid() === undefined);
    expect(happened(project).filter((type) => type === 'started')).toHaveLength(2);
  });

  test('is started again so often, and then given up', async () => {
    const project = fixture(one('command: "echo once more >>/log; exit 4", restart: "on-failure:2"'));
    await project.tsv('up');
    await until('it is given up', () => happened(project).includes('given-up'));
    expect((await project.states()).a).toBe('stopped (ended with 4, restarted 2 times)');
    expect(happened(project).filter((type) => type === 'ended')).toHaveLength(3);
  });

  test('is not started again when it ended well and only failures count', async () => {
    const project = fixture(one('command: "exit 0", restart: on-failure'));
    await project.tsv('up');
    await until('it has ended', () => happened(project).includes('ended'));
    expect(happened(project)).not.toContain('restarting');
    expect((await project.states()).a).toBe('stopped (ended with 0)');
  });

  test('is started again by the next agent, if the one that saw it start was killed', async () => {
    const project = fixture({
      'Tsfile.yaml': `${head}  a: { image: debian-12, command: "sleep 1000", restart: always }\n  b: { image: debian-12 }\n`,
    });
    await project.ok('up');
    const first = project.machinePid('a');
    await killNow(project.agentPid() ?? 0);
    await killNow(first);
    // Any command that needs an agent.
    await project.ok('exec b -- true');
    await until('a runs again', () => happened(project).filter((type) => type === 'ready').length === 2);
    expect(await project.states()).toEqual({ a: 'running (restarted once)', b: 'running' });
  });

  test('is left alone by a restart once a command has decided otherwise', async () => {
    // It ends at once, each time: the pause before the next start grows, and halt comes in one of them.
    const project = fixture(one('command: "exit 1", restart: always'));
    await project.tsv('up');
    await until('it was started again a few times', () => (project.state()?.machines.a?.restarts ?? 0) >= 2);
    await project.ok('halt');
    const { length } = happened(project);
    expect(await project.states()).toEqual({ a: 'stopped' });
    await until('the agent leaves', () => project.agentPid() === undefined);
    expect(happened(project)).toHaveLength(length);
  });
});

function parentOf(pid: number): number {
  return Number(/^PPid:\s*(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]);
}
