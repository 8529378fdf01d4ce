import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { IoLimits } from '../../src/model/project.ts';
import type { OciConfig } from '../../src/oci/spec.ts';
import { readEvents } from '../../src/state/events.ts';
import { killNow } from '../support/cli.ts';
import { type Fixture, fixture } from '../support/fixture.ts';
import { read } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

/** 30 MB that the kernel cannot drop. */
const hungry = `
version: 1
project: limits
networks: { default: { mode: isolated } }
machines:
  a:
    image: debian-12
    memory: 128M
    cpus: 1
    pids: 100
    cpu_shares: 512
    io: { read_bps: 50M }
    restart: always
    stop_timeout: 1s
    command: [perl, -e, 'my $x = "x" x 30_000_000; $| = 1; print "full\\n"; sleep']
`;
const edit = (project: Fixture, memory: string, cpus: number, pids: number): void =>
  project.edit((text) =>
    text
      .replace(/memory: .*/, `memory: ${memory}`)
      .replace(/cpus: .*/, `cpus: ${cpus}`)
      .replace(/pids: .*/, `pids: ${pids}`),
  );

interface Limits {
  readonly memoryBytes: number;
  readonly cpus: number;
  readonly pids: number;
  readonly cpuShares: number;
  readonly io: IoLimits;
}
const known = async (project: Fixture): Promise<Limits> => {
  const { stdout } = await project.ok(['inspect', 'a', '--format', '.limits']);
  return JSON.parse(stdout) as Limits;
};
const MiB = 2 ** 20;
const canSwap = !/^SwapTotal: +0 kB$/m.test(read('/proc/meminfo'));

type Controller = 'memory' | 'pids' | 'cpu' | 'blkio';
const v1Files = { memory: 'memory.limit_in_bytes', pids: 'pids.max', cpu: 'cpu.shares' } as const;

/** The folder of a process's cgroup, and of which version it is. */
function cgroupOf(pid: number, controller: Controller): { version: 1 | 2; folder: string } {
  const lines = read(`/proc/${pid}/cgroup`).trim().split('\n');
  const parsed = lines.map((line) => /^\d+:([^:]*):(.*)$/.exec(line) ?? []);
  const v1 = parsed.find(([, names]) => names?.split(',').includes(controller))?.[2];
  if (v1 !== undefined) return { version: 1, folder: `/sys/fs/cgroup/${controller}${v1}` };
  return { version: 2, folder: `/sys/fs/cgroup${parsed.find(([, names]) => names === '')?.[2]}` };
}

function limitFile(pid: number, controller: 'memory' | 'pids'): string {
  const { version, folder } = cgroupOf(pid, controller);
  return `${folder}/${version === 1 ? v1Files[controller] : `${controller}.max`}`;
}

/** As the kernel has them: memory in MiB, processes. */
const inForce = (pid: number): readonly [number, number] => [
  Number(read(limitFile(pid, 'memory'))) / MiB,
  Number(read(limitFile(pid, 'pids'))),
];

/** Weight for CPU time, and the limits of io without the device. */
function othersInForce(pid: number): readonly string[] {
  const cpu = cgroupOf(pid, 'cpu');
  const io = cgroupOf(pid, 'blkio');
  const text = (file: string): string =>
    read(file)
      .trim()
      .replace(/^\d+:\d+ /, '');
  const weight = text(`${cpu.folder}/${cpu.version === 1 ? 'cpu.shares' : 'cpu.weight'}`);
  if (io.version === 2) return [weight, text(`${io.folder}/io.max`)];
  return [weight, ...['read_bps', 'write_iops'].map((name) => text(`${io.folder}/blkio.throttle.${name}_device`))];
}

const filled = (project: Fixture, times: number): Promise<unknown> =>
  until(`its memory is in use for the ${times}. time`, () => {
    const log = readFileSync(join(project.dir, '.ts-vm', 'machines', 'a', 'console.log'), 'utf8');
    return log.split('full\n').length > times;
  });

describe('limits of a container that runs', () => {
  test('follow the Tsfile without a restart, up and down; below what is in use all stay as they are', async (context) => {
    const project = fixture({ 'Tsfile.yaml': hungry });
    const isLimited = !(await project.ok('up')).stderr.includes('no limit on');
    await filled(project, 1);
    const pid = project.machinePid('a');
    const first = isLimited ? othersInForce(pid) : [];
    edit(project, '192M', 2, 200);
    project.edit((text) =>
      text.replace('cpu_shares: 512', 'cpu_shares: 2048').replace('read_bps: 50M', 'write_iops: 3000'),
    );
    const plan = await project.tsv('plan');
    expect([plan.code, plan.stdout]).toEqual([
      2,
      '~ a  adjust  memory, cpus, pids, cpu_shares, io changed (live)\n\n1 to adjust\n',
    ]);
    const up = await project.ok('up');
    const others = { cpuShares: 2048, io: { writesPerSecond: 3000 } };
    expect(await known(project)).toEqual({ memoryBytes: 192 * MiB, cpus: 2, pids: 200, ...others });
    expect(project.machinePid('a')).toBe(pid);
    expect((await project.ok('plan')).stdout).toBe('nothing to do\n');
    expect(readEvents(project.dir).at(-1)?.event).toEqual({
      type: 'adjusted',
      limits: ['memory', 'cpus', 'pids', 'cpu_shares', 'io'],
    });
    const config = JSON.parse(
      readFileSync(join(project.dir, '.ts-vm', 'machines', 'a', 'config.json'), 'utf8'),
    ) as OciConfig;
    expect(config.linux?.resources).toMatchObject({
      memory: { limit: 192 * MiB },
      cpu: { quota: 200_000, shares: 2048 },
      pids: { limit: 200 },
    });
    if (!isLimited) {
      expect(up.stderr).toMatch(/no limit on memory, cpu, pids/);
      context.skip('this user may make no cgroups here');
    }
    expect(inForce(pid)).toEqual([192, 200]);
    expect([first, othersInForce(pid)]).toEqual(
      cgroupOf(pid, 'blkio').version === 1
        ? [
            ['512', `${50 * MiB}`, ''],
            ['2048', '', '3000'],
          ]
        : [
            ['20', `rbps=${50 * MiB} wbps=max riops=max wiops=max`],
            ['79', 'rbps=max wbps=max riops=max wiops=3000'],
          ],
    );
    const usage = JSON.parse((await project.ok('stats a --no-stream --json')).stdout) as { memoryLimitBytes: number };
    expect(usage.memoryLimitBytes).toBe(192 * MiB);

    edit(project, '96M', 2, 150);
    await project.ok('up');
    expect(inForce(pid)).toEqual([96, 150]);

    edit(project, '16M', 1, 120);
    // An agent that was killed on the way to other limits: the next one makes true what is written down.
    await killNow(project.agentPid() ?? 0);
    writeFileSync(limitFile(pid, 'pids'), '333');
    await project.ok('exec a -- true');
    expect(inForce(pid)).toEqual([96, 150]);

    // Its restart policy starts it with the limits that it had, whatever the Tsfile says by now.
    await killNow(pid);
    await filled(project, 2);
    expect(project.machinePid('a')).not.toBe(pid);
    expect(inForce(project.machinePid('a'))).toEqual([96, 150]);

    if (canSwap) context.skip('this host swaps: no memory is too much to be taken away');
    const again = project.machinePid('a');
    const refused = await project.tsv('up');
    expect(refused.code).toBe(1);
    expect(refused.stderr).toMatch(
      /a cannot be limited to 16 MiB: it uses [\d.]+ MiB[\s\S]*old limits, 96 MiB[\s\S]*tsv reload a/,
    );
    expect(inForce(again)).toEqual([96, 150]);
    expect(await known(project)).toEqual({ memoryBytes: 96 * MiB, cpus: 2, pids: 150, ...others });
    expect((await project.tsv('plan')).code).toBe(2);
    expect([project.machinePid('a'), await project.states()]).toEqual([again, { a: 'running (restarted once)' }]);
  });
});
