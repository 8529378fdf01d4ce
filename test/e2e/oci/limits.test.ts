import { existsSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cgroupsNamed, type Draft, ociHost, useRootfs } from '../../support/bundle.ts';
import { rootTest } from '../../support/root.ts';

useRootfs();

const cgroups = rootTest('a user may make no cgroups here');

describe('limits', () => {
  const limited = (config: Draft) => {
    config.linux.resources = {
      memory: { limit: 64 << 20, reservation: 32 << 20 },
      cpu: { shares: 512, quota: 50_000, period: 100_000 },
      pids: { limit: 50 },
    };
  };
  const memory = { v1: 'memory.limit_in_bytes', v2: 'memory.max' };
  const pids = { v1: 'pids.max', v2: 'pids.max' };

  cgroups('are in the cgroup that config.json names, update changes them, and delete removes it', async () => {
    const box = ociHost().container('exec sleep 1000', (config, box) => {
      limited(config);
      config.linux.cgroupsPath = `/${box.id}-named`;
    });
    await box.ok('run --detach');
    expect(cgroupsNamed(`${box.id}-named`)).not.toEqual([]);
    expect(await box.limit('memory', memory)).toBe(String(64 << 20));
    expect(await box.limit('memory', { v1: 'memory.soft_limit_in_bytes', v2: 'memory.low' })).toBe(String(32 << 20));
    expect(await box.limit('pids', pids)).toBe('50');
    expect(await box.limit('cpu', { v1: 'cpu.cfs_quota_us', v2: 'cpu.max' })).toMatch(/^50000( 100000)?$/);
    expect(await box.limit('cpu', { v1: 'cpu.shares', v2: 'cpu.weight' })).toMatch(/^(512|20)$/);
    await box.ok('update --memory 48M --pids-limit 40 --cpu-quota 25000');
    expect(await box.limit('memory', memory)).toBe(String(48 << 20));
    expect(await box.limit('pids', pids)).toBe('40');
    expect(await box.limit('cpu', { v1: 'cpu.cfs_quota_us', v2: 'cpu.max' })).toMatch(/^25000/);
    const resources = JSON.stringify({ pids: { limit: 30 } });
    expect((await box.callWith({ input: resources }, 'update --resources -')).code).toBe(0);
    expect(await box.limit('pids', pids)).toBe('30');
    expect(await box.limit('memory', memory)).toBe(String(48 << 20));
    await box.ok('delete --force');
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  cgroups('of the buffers of TCP are set where the kernel has one, else the log says that they are not', async () => {
    const box = ociHost().container('exec sleep 1000', (config) => {
      config.linux.resources = { memory: { kernelTCP: 1 << 20 } };
    });
    const { code, stderr } = await box.call('run --detach');
    expect(code).toBe(0);
    const limit = await box.limit('memory', { v1: 'memory.kmem.tcp.limit_in_bytes', v2: 'none' });
    if (limit === '') expect(stderr).toContain('memory.kernelTCP is ignored');
    else expect({ limit, stderr }).toEqual({ limit: String(1 << 20), stderr: '' });
  });

  cgroups('hold: no process more than allowed, and no more memory', async () => {
    const box = ociHost().container('for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done', (config) => {
      config.linux.resources = { pids: { limit: 4 } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).not.toBe(0);
    expect(stderr).toContain("can't fork");
    const eater = box.host.container('exec tail -c 200m /dev/zero', (config) => {
      config.linux.resources = { memory: { limit: 32 << 20, swap: 32 << 20 } };
    });
    expect((await eater.call('run')).code).toBe(137);
  });

  cgroups('a device opens only when a rule allows it', async (context) => {
    const tun = { type: 'c', major: 10, minor: 200 };
    if (!existsSync('/dev/net/tun')) context.skip('this host has no /dev/net/tun');
    const opens = (allow: boolean) =>
      ociHost()
        .container(': </dev/own', (config) => {
          config.linux.devices = [{ ...tun, path: '/dev/own', fileMode: 0o666 }];
          config.linux.resources = {
            devices: [{ allow: false, access: 'rwm' }, ...(allow ? [{ ...tun, allow, access: 'rw' }] : [])],
          };
        })
        .call('run');
    expect(await opens(true)).toEqual({ code: 0, stdout: '', stderr: '' });
    expect((await opens(false)).stderr).toContain("can't open /dev/own: Operation not permitted");
  });

  cgroups('an update that the kernel refuses is an error', async () => {
    const box = ociHost().container();
    await box.ok('run --detach');
    const { code, stderr } = await box.call('update --cpuset-cpus 4000');
    expect(code).toBe(1);
    expect(stderr).toContain('cpu');
  });

  test('of the process are set: rlimits, oom score, umask', async () => {
    const script = 'ulimit -n; ulimit -Hn; cat /proc/self/oom_score_adj; umask';
    const box = ociHost().container(script, ({ process }) => {
      process.rlimits = [{ type: 'RLIMIT_NOFILE', soft: 100, hard: 200 }];
      process.oomScoreAdj = 500;
      process.user = { uid: 0, gid: 0, umask: 0o27 };
    });
    expect(await box.ok('run')).toBe('100\n200\n500\n0027\n');
  });
});
