import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  cgroupProcesses,
  changeLimits,
  freeze,
  isFrozen,
  killCgroup,
  oomKills,
  removeCgroup,
  thaw,
  updateCgroup,
} from '../../src/cgroup/index.ts';
import { wasStarved } from '../../src/sys/kernel-log.ts';
import { bootId } from '../../src/sys/process.ts';
import { failure } from '../unit/cgroup/kernel.ts';
import { create, folderOf, type Kind, need, needV2, read, run, strict, useCgroups } from '../unit/cgroup/lab.ts';

useCgroups();

/** Only in the hierarchies of v1, and only in the unified one: each is a host of its own kind. */
describe.each<Kind>(['v1', 'v2'])('a container in %s', (kind) => {
  test('is killed for memory, and that is counted', async (context) => {
    need(context, kind, 'memory');
    const created = create(kind, { memory: { limit: 16 << 20, swap: 16 << 20 } });
    expect(oomKills(created.cgroup)).toBe(0);
    const eater = await run(created, 'exec tail /dev/zero');
    expect(await eater.exited).toEqual({ signal: 9 });
    expect(oomKills(created.cgroup)).toBe(1);
    const [ref, other] = [eater.pid, process.pid].map((pid) => ({ pid, startTime: '0', bootId: bootId() }));
    expect([ref, other].map((one) => one !== undefined && wasStarved(one))).toEqual([true, false]);
  });

  test('has no more processes than it may', async (context) => {
    need(context, kind, 'pids');
    const created = create(kind, { pids: { limit: 3 } });
    const forker = await run(created, 'for i in 1 2 3 4 5; do sleep 100 & done; wait');
    await forker.prints('fork');
    expect(read(created.cgroup, 'pids.events')).toMatch(/^max [1-9]/);
    expect(cgroupProcesses(created.cgroup).length).toBeLessThanOrEqual(3);
    await killCgroup(created.cgroup, 9);
    expect(cgroupProcesses(created.cgroup)).toEqual([]);
  });

  test('gets other limits as it runs, and keeps those that it has where one is below what it uses', async (context) => {
    need(context, kind, 'memory', 'pids');
    const folder = mkdtempSync('/var/tmp/limits-'); // on a disk: what is in /tmp may itself be memory
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const of = (MiB: number, pids: number) => ({ memory: { limit: MiB << 20 }, pids: { limit: pids } });
    const created = create(kind, of(64, 50));
    const { cgroup } = created;
    const limits = () => [
      Number(read(cgroup, kind === 'v1' ? 'memory.limit_in_bytes' : 'memory.max')) >> 20,
      Number(read(cgroup, 'pids.max')),
    ];
    const used = () => Number(read(cgroup, kind === 'v1' ? 'memory.usage_in_bytes' : 'memory.current')) >> 20;
    const holder = await run(
      created,
      `head -c 40000000 /dev/zero >${folder}/file; sync ${folder}/file; x=$(head -c 8000000 /dev/zero | tr "\\0" x); echo ready; kill -STOP $$`,
    );
    await holder.prints('ready');
    expect(used(), 'with the file').toBeGreaterThan(40);

    expect(changeLimits(cgroup, of(64, 50), of(32, 40))).toEqual({ missing: [] });
    expect(limits(), 'the file can be dropped').toEqual([32, 40]);
    expect(changeLimits(cgroup, of(32, 40), of(128, 60))).toEqual({ missing: [] });
    expect(limits()).toEqual([128, 60]);
    if (!/^SwapTotal: +0 kB$/m.test(readFileSync('/proc/meminfo', 'utf8'))) context.skip('this host swaps');
    expect(changeLimits(cgroup, of(128, 60), of(4, 30))).toMatchObject({
      missing: [],
      refused: { controller: 'memory', errno: 'EBUSY' },
    });
    expect(limits()).toEqual([128, 60]);
    expect(oomKills(cgroup)).toBe(0);
    expect(cgroupProcesses(cgroup)).toContain(holder.pid);
  });

  test('opens the devices that it may and no others, also after an update', async (context) => {
    if (kind === 'v1') need(context, kind, 'devices');
    else needV2(context);
    const folder = mkdtempSync(join(tmpdir(), 'devices-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    const created = create(kind, { devices: [{ allow: false, access: 'rwm' }] });
    // No driver has this block device: past the cgroup, opening it ends with ENXIO, and nothing is touched.
    const [major, minor] = [240, 5];
    const probe = async (): Promise<string> => {
      const script = [
        'try() { case $("$@" 2>&1) in *not\\ permitted*) echo denied;; *No\\ such\\ device*) echo passed;; "") echo opened;; *) "$@";; esac; }',
        `cd ${folder}; rm -f node; mknod node b ${major} ${minor} && echo made`,
        'try head -c 0 /dev/null; try head -c 0 /dev/urandom',
        'try head -c 0 node; try dd of=node count=0 conv=notrunc status=none',
      ].join('\n');
      const done = await run(created, script);
      await done.exited;
      return (await done.output).trim().replaceAll('\n', ' ');
    };
    const deny = { allow: false, access: 'rwm' };
    const node = { allow: true, type: 'b', major, minor };
    expect(await probe()).toBe('made opened opened denied denied');
    updateCgroup(created.cgroup, { devices: [deny, { ...node, access: 'r' }] }, strict);
    expect(await probe()).toBe('made opened opened passed denied');
    updateCgroup(created.cgroup, { devices: [deny, { ...node, access: 'rw' }] }, strict);
    expect(await probe()).toBe('made opened opened passed passed');
    updateCgroup(created.cgroup, { devices: [{ allow: true, access: 'rwm' }] }, strict);
    expect(await probe()).toBe('made opened opened passed passed');
    updateCgroup(created.cgroup, { devices: [] }, strict);
    expect(await probe()).toBe('made opened opened denied denied');
  });

  test('is stopped and goes on, all of it', async (context) => {
    if (kind === 'v1') need(context, kind, 'freezer');
    else needV2(context);
    const created = create(kind);
    const tree = await run(created, '(while :; do :; done) & while :; do sleep 0.01; done & echo on; wait');
    await tree.prints('on');
    for (let round = 0; round < 5; round++) {
      await freeze(created.cgroup);
      expect(isFrozen(created.cgroup)).toBe(true);
      thaw(created.cgroup);
      expect(isFrozen(created.cgroup)).toBe(false);
    }
    await freeze(created.cgroup);
    expect(failure(() => create(kind)).message, 'it takes no second container then').toMatch(/is frozen$/);
    await killCgroup(created.cgroup, 9);
    expect(await tree.exited).toEqual({ signal: 9 });
    expect(cgroupProcesses(created.cgroup)).toEqual([]);
  });

  test('gets a signal in all its processes', async (context) => {
    if (kind === 'v1') need(context, kind, 'freezer');
    else needV2(context);
    const created = create(kind);
    const tree = await run(
      created,
      'trap "echo first; exit 3" USR1; (trap "echo second; exit" USR1; echo on; while :; do sleep 0.01; done) & while :; do sleep 0.01; done',
    );
    await tree.prints('on');
    await killCgroup(created.cgroup, 10);
    await tree.prints('first');
    await tree.prints('second');
    expect(await tree.exited).toEqual({ code: 3 });
    expect(isFrozen(created.cgroup)).toBe(false);
  });

  test('is gone when it is removed, with what it made inside', async (context) => {
    if (kind === 'v1') need(context, kind, 'freezer');
    else needV2(context);
    const created = create(kind);
    const folder = folderOf(created.cgroup, 'freezer');
    const inner = await run(
      created,
      `mkdir ${folder}/inner ${folder}/inner/most && echo $$ >${folder}/inner/most/cgroup.procs && echo on && exec sleep 100`,
    );
    await inner.prints('on');
    expect(cgroupProcesses(created.cgroup)).toEqual([inner.pid]);
    await expect(removeCgroup(created.cgroup, { timeoutMs: 50 })).rejects.toMatchObject({
      code: 'TSV_CGROUP',
      details: [`processes are still in it: ${inner.pid}`],
    });
    await killCgroup(created.cgroup, 9);
    await inner.exited;
    await removeCgroup(created.cgroup);
    expect(existsSync(folder)).toBe(false);
    expect(existsSync(join(folder, '..')), 'its parent stays unless it is asked for').toBe(true);
    await removeCgroup(created.cgroup, { parents: true });
    expect(existsSync(join(folder, '..'))).toBe(false);
  });
});
