import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import packageJson from '../../../package.json' with { type: 'json' };
import { hookKinds } from '../../../src/oci/spec.ts';
import { ociHost, useRootfs } from '../../support/bundle.ts';
import { isRoot, rootTest } from '../../support/root.ts';
import { until } from '../../support/until.ts';

useRootfs();

const cgroups = rootTest('a user may make no cgroups here');

describe('looking at containers', () => {
  test('list shows all of them', async () => {
    const host = ociHost();
    const [one, two] = [host.container(), host.container()];
    expect((await host.oci(['list', '--format', 'json'])).stdout).toMatch(/^(null|\[\])\n$/);
    await one.ok('create');
    await two.ok('run --detach');
    expect((await host.oci(['list', '--quiet'])).stdout).toBe(`${one.id}\n${two.id}\n`);
    const { stdout: table } = await host.oci(['list']);
    expect(table.split('\n')[0]).toMatch(/^ID +PID +STATUS +BUNDLE +CREATED +OWNER$/);
    expect(table.split('\n')[2]).toMatch(new RegExp(`^${two.id} +${await two.pid()} +running +${two.bundle} +`));
    const listed = JSON.parse((await host.oci(['list', '--format', 'json'])).stdout) as {
      id: string;
      status: string;
    }[];
    expect(listed.map(({ id, status }) => `${id} ${status}`)).toEqual([`${one.id} created`, `${two.id} running`]);
  });

  cgroups('ps shows the processes', async () => {
    const box = ociHost().container('sleep 1001 & exec sleep 1000');
    await box.ok('run --detach');
    await until('both run', async () => {
      const pids = JSON.parse(await box.ok('ps --format json')) as number[];
      return pids.length === 2 && pids.includes(await box.pid());
    });
    const [title, ...lines] = (await box.ok('ps')).trim().split('\n');
    expect(title).toMatch(/\bPID\b/);
    expect(lines).toHaveLength(2);
    expect(lines.join('\n')).toContain('sleep 1001');
    expect(await box.ok('ps', '-o', 'pid,comm')).toMatch(new RegExp(`\\b${await box.pid()} sleep\\b`));
  });

  cgroups('pause stops everything and resume lets it go on', async () => {
    const box = ociHost().container('while :; do echo tick; sleep 0.01; done');
    await box.ok('run --detach');
    await until('it ticks', () => box.output !== '');
    await box.ok('pause');
    expect((await box.state()).status).toBe('paused');
    const { code, stderr } = await box.call('exec', 'true');
    expect(code).toBe(255);
    expect(stderr).toContain('paused');
    const stood = box.output.length;
    expect((await box.call('pause')).code).not.toBe(0);
    expect(box.output.length).toBe(stood);
    await box.ok('resume');
    expect((await box.state()).status).toBe('running');
    await until('it ticks again', () => box.output.length > stood);
    await box.ok('pause');
    await box.ok('delete --force');
    await box.host.expectNothingLeft();
  });

  cgroups('events --stats prints one line', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const line = await box.ok('events --stats');
    expect(line.trimEnd()).not.toContain('\n');
    const event = JSON.parse(line) as {
      type: string;
      id: string;
      data: { cpu: { usage: { total: number } }; memory: { usage: { usage: number } }; pids: { current: number } };
    };
    expect(event).toMatchObject({ type: 'stats', id: box.id });
    expect(event.data.cpu.usage.total).toBeGreaterThan(0);
    expect(event.data.memory.usage.usage).toBeGreaterThan(0);
    expect(event.data.pids.current).toBe(1);
  });

  cgroups('events tells of memory that ran out, each time, and ends with the container', async () => {
    const script = 'echo up; for i in 1 2; do read line; tail -c 200m /dev/zero; done; read line';
    const box = ociHost().container(script, ({ linux }) => {
      linux.resources = { memory: { limit: 32 << 20, swap: 32 << 20 } };
    });
    const running = box.host.start(box.args('run'));
    await running.prints(/up/);
    const watching = box.host.start(['events', '--interval', '20ms', box.id], { input: '' });
    await watching.prints(/"type":"stats"/);
    const told = () =>
      watching
        .output()
        .stdout.split('\n')
        .filter((line) => line.includes('"oom"'));
    const event = `{"type":"oom","id":"${box.id}"}`;
    for (const expected of [[event], [event, event]]) {
      running.write('go\n');
      await until('it tells', () => told().length >= expected.length);
      expect(told()).toEqual(expected);
    }
    running.write('end\n');
    expect((await watching.result).code).toBe(0);
    expect(told()).toEqual([event, event]);
    expect((await running.result).code).toBe(0);
  });

  test('spec writes a bundle that runs, and does not overwrite one', async () => {
    const host = ociHost();
    const box = host.container();
    rmSync(join(box.bundle, 'config.json'));
    const flags = ['--bundle', box.bundle, ...(isRoot ? [] : ['--rootless'])];
    expect((await host.oci(['spec', ...flags])).code).toBe(0);
    const written = readFileSync(join(box.bundle, 'config.json'), 'utf8');
    const again = await host.oci(['spec', ...flags]);
    expect(again.code).toBe(1);
    expect(again.stderr).toContain('config.json');
    expect(readFileSync(join(box.bundle, 'config.json'), 'utf8')).toBe(written);
    const running = host.startOnTerminal(box.args('run'));
    running.write('id -u; touch /file; exit 3\r');
    const { code, stdout } = await running.result;
    expect(stdout).toMatch(/^0\r$/m);
    expect(stdout).toContain('Read-only file system');
    expect(code).toBe(3);
  });

  test('features and --version say what it knows', async () => {
    const host = ociHost();
    const features = JSON.parse((await host.oci(['features'])).stdout) as Record<string, unknown>;
    expect(features).toMatchObject({
      ociVersionMin: '1.0.0',
      ociVersionMax: '1.2.0',
      hooks: expect.arrayContaining([...hookKinds]),
    });
    expect(features.linux).toMatchObject({ cgroup: { v1: true, v2: true }, seccomp: { enabled: true } });
    const { stdout } = await host.oci(['--version']);
    expect(stdout).toContain(packageJson.version);
    expect(stdout).toMatch(/^spec: 1\.2\.0$/m);
  });
});

describe('the log', () => {
  test('is a line of JSON for an error, in the file and on standard error', async () => {
    const host = ociHost();
    const log = join(host.dir, 'log');
    const { code, stderr } = await host.oci(['--log', log, '--log-format', 'json', 'state', 'nobody']);
    expect(code).toBe(1);
    expect(stderr).toBe('container does not exist: nobody\n');
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines.map((line) => JSON.parse(line) as unknown)).toEqual([
      { level: 'error', msg: 'container does not exist: nobody', time: expect.stringMatching(/^\d{4}-/) },
    ]);
    const without = await host.oci(['--log-format', 'json', 'state', 'nobody']);
    expect(JSON.parse(without.stderr)).toMatchObject({ level: 'error', msg: 'container does not exist: nobody' });
  });

  test('a mistake in the command line is an error that says so', async () => {
    const host = ociHost();
    for (const [args, said] of [
      [['nonsense'], 'nonsense'],
      [['state'], 'argument'],
      [['state', '--fun', 'x'], '-fun'],
      [['--log-format', 'xml', 'list'], 'log-format'],
    ] as const) {
      const { code, stderr } = await host.oci(args);
      expect(code, args.join(' ')).not.toBe(0);
      expect(stderr).toContain(said);
    }
  });
});
