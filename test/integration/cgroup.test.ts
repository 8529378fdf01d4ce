import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  cgroupProcesses,
  freeze,
  isFrozen,
  killCgroup,
  removeCgroup,
  stats,
  statsJson,
  thaw,
  updateCgroup,
} from '../../src/cgroup/index.ts';
import type { OciResources } from '../../src/oci/spec.ts';
import { processStat } from '../../src/sys/process.ts';
import { failure } from '../unit/cgroup/kernel.ts';
import { create, layout, name, need, read, run, someDisk, strict, useCgroups } from '../unit/cgroup/lab.ts';

useCgroups();

describe('the layout', () => {
  test('has each mounted hierarchy with our own place in it', () => {
    const own = readFileSync('/proc/self/cgroup', 'utf8').trim().split('\n');
    expect(layout.hierarchies.map((one) => one.name).sort()).toEqual(own.map((line) => line.split(':')[1]).sort());
    for (const { own: folder = '', version } of layout.hierarchies) {
      expect(readFileSync(join(folder, 'cgroup.procs'), 'utf8').split('\n'), `${folder} of v${version}`).toContain(
        `${process.pid}`,
      );
    }
  });
});

describe('a cgroup of v1', () => {
  test('has the limits that were asked for, and others after an update', (context) => {
    need(context, 'v1', 'memory', 'cpu', 'cpuset', 'pids');
    const resources: OciResources = {
      memory: { limit: 64 << 20, swap: 96 << 20, reservation: 32 << 20, swappiness: 10 },
      cpu: { shares: 512, quota: 25_000, period: 50_000, burst: 5000, cpus: '0', mems: '0' },
      pids: { limit: 20 },
    };
    const { cgroup, missing, warnings } = create('v1', resources);
    expect({ missing, warnings }).toEqual({ missing: [], warnings: [] });
    const limits = () => ({
      memory: read(cgroup, 'memory.limit_in_bytes'),
      memsw: read(cgroup, 'memory.memsw.limit_in_bytes'),
      quota: `${read(cgroup, 'cpu.cfs_quota_us')} of ${read(cgroup, 'cpu.cfs_period_us')}`,
      pids: read(cgroup, 'pids.max'),
    });
    expect(limits()).toEqual({ memory: `${64 << 20}`, memsw: `${96 << 20}`, quota: '25000 of 50000', pids: '20' });
    expect(read(cgroup, 'memory.soft_limit_in_bytes')).toBe(`${32 << 20}`);
    expect(read(cgroup, 'memory.swappiness')).toBe('10');
    expect(read(cgroup, 'cpu.shares')).toBe('512');
    expect(read(cgroup, 'cpu.cfs_burst_us')).toBe('5000');
    expect(read(cgroup, 'cpuset.cpus')).toBe('0');
    // Each step is one that the kernel refuses in the wrong order.
    for (const [limit, swap] of [
      [256 << 20, 300 << 20],
      [16 << 20, 20 << 20],
      [-1, -1],
      [32 << 20, 32 << 20],
    ] as const) {
      updateCgroup(cgroup, { memory: { limit, swap } }, strict);
      if (limit > 0) expect(limits()).toMatchObject({ memory: `${limit}`, memsw: `${swap}` });
    }
    updateCgroup(cgroup, { cpu: { quota: 4000, period: 5000, burst: 0 }, pids: { limit: -1 } }, strict);
    expect(limits()).toMatchObject({ quota: '4000 of 5000', pids: 'max' });
    updateCgroup(cgroup, { cpu: { quota: -1 } }, strict);
    expect(limits()).toMatchObject({ quota: '-1 of 5000' });
  });

  test('throttles a block device, and names one that is not there', (context) => {
    need(context, 'v1', 'blkio');
    const { major, minor } = someDisk() ?? context.skip('this host has no disk');
    const { cgroup } = create('v1', { blockIO: { throttleReadBpsDevice: [{ major, minor, rate: 1 << 20 }] } });
    expect(read(cgroup, 'blkio.throttle.read_bps_device')).toBe(`${major}:${minor} ${1 << 20}`);
    const absent = { blockIO: { throttleWriteIOPSDevice: [{ major: 4000, minor: 0, rate: 5 }] } };
    expect(failure(() => updateCgroup(cgroup, absent, strict))).toMatchObject({
      code: 'TSV_CGROUP',
      message: expect.stringMatching(
        /^linux\.resources\.blockIO\.throttleWriteIOPSDevice\[0\]\.rate: there is no such device/,
      ),
    });
  });

  test('refuses a memory limit below what is in use, and says so', async (context) => {
    need(context, 'v1', 'memory');
    const created = create('v1');
    const holder = await run(created, 'x=$(head -c 30000000 /dev/zero | tr "\\0" x); echo ready; kill -STOP $$');
    await holder.prints('ready');
    const error = failure(() => updateCgroup(created.cgroup, { memory: { limit: 4 << 20, swap: 4 << 20 } }, strict));
    expect(error.message).toMatch(/^linux\.resources\.memory\.limit: more is in use already \(\d+ bytes\): EBUSY$/);
  });

  test('that cannot have a limit leaves nothing', (context) => {
    need(context, 'v1', 'cpuset');
    const error = failure(() => create('v1', { cpu: { cpus: '4000' } }));
    expect(error).toMatchObject({
      code: 'TSV_CGROUP',
      message: expect.stringMatching(/^linux\.resources\.cpu\.cpus: /),
    });
    for (const { mountPoint } of layout.hierarchies) expect(existsSync(join(mountPoint, name))).toBe(false);
  });

  test('freezes even a SIGKILL', async (context) => {
    need(context, 'v1', 'freezer');
    const created = create('v1');
    const spinner = await run(created, 'echo on; while :; do :; done');
    await spinner.prints('on');
    await freeze(created.cgroup);
    expect(isFrozen(created.cgroup)).toBe(true);
    expect(read(created.cgroup, 'freezer.state')).toBe('FROZEN');
    process.kill(spinner.pid, 'SIGKILL');
    expect(processStat(spinner.pid)?.state).toBe('D');
    thaw(created.cgroup);
    expect(isFrozen(created.cgroup)).toBe(false);
    expect(await spinner.exited).toEqual({ signal: 9 });
  });
});

/** A shell would end where it cannot fork. */
const forkBomb = `exec perl -e '$| = 1; print "on\\n"; fork while 1'`;

describe('a container in all hierarchies of the host', () => {
  test('is in each one, and its use is counted', async (context) => {
    need(context, 'all', 'memory', 'pids', 'cpu');
    const created = create('all', { pids: { limit: 7 }, memory: { limit: 1 << 30 } });
    const sleeper = await run(created, 'i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo on; exec sleep 100');
    await sleeper.prints('on');
    const places = readFileSync(`/proc/${sleeper.pid}/cgroup`, 'utf8').trim().split('\n');
    expect(places.filter((line) => !line.endsWith(`:${name}/box`))).toEqual([]);
    const seen = stats(created.cgroup);
    expect(seen.pids).toEqual({ current: 1, limit: 7 });
    expect(seen.memory.usage.limit).toBe(1 << 30);
    expect(seen.memory.usage.usage).toBeGreaterThan(4096);
    expect(seen.cpu.usage.total).toBeGreaterThan(1_000_000);
    expect(Object.keys(seen)).toEqual(
      expect.arrayContaining([
        'cpu',
        'cpuset',
        'memory',
        'pids',
        'blkio',
        'hugetlb',
        'intel_rdt',
        'network_interfaces',
      ]),
    );
    const unlimited = stats(create('all', {}, { path: 'free' }).cgroup);
    expect(statsJson(unlimited)).toMatch(/"limit":(9223372036854771712|18446744073709551615)/);
    expect(JSON.parse(statsJson(unlimited)).pids).toEqual({});
  });

  test('is killed to the last, however fast it forks', async (context) => {
    need(context, 'all', 'pids');
    const created = create('all', { pids: { limit: 40 } });
    const bomb = await run(created, forkBomb);
    await bomb.prints('on');
    await killCgroup(created.cgroup, 9);
    expect(cgroupProcesses(created.cgroup)).toEqual([]);
    expect(await bomb.exited).toEqual({ signal: 9 });
    await removeCgroup(created.cgroup);
  });

  test('is killed to the last without cgroup.kill', async (context) => {
    need(context, 'v1', 'pids', 'freezer');
    const created = create('v1', { pids: { limit: 40 } });
    const bomb = await run(created, forkBomb);
    await bomb.prints('on');
    await killCgroup(created.cgroup, 9);
    expect(cgroupProcesses(created.cgroup)).toEqual([]);
    expect(await bomb.exited).toEqual({ signal: 9 });
    await removeCgroup(created.cgroup);
  });
});
