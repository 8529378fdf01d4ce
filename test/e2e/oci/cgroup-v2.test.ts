import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, onTestFinished, type TestContext, test } from 'vitest';
import { type Container, cgroupsNamed, type Draft, ociHost, removeCgroup, useRootfs } from '../../support/bundle.ts';
import { tsvProgram } from '../../support/cli.ts';
import { read } from '../../support/host-processes.ts';
import { isRoot } from '../../support/root.ts';
import { until } from '../../support/until.ts';

/* `tsv oci` on a host whose control groups are all of v2. in-a-vm.test.ts runs this where the host is another. */

useRootfs();

const mountPoint = '/sys/fs/cgroup';
/** In a virtual machine without acceleration. */
const slowly = { timeoutMs: 60_000 };
const controllers = read(join(mountPoint, 'cgroup.controllers')).trim();

/** Skips where the limits are not in v2. Few commands with many checks each: in a VM without acceleration each takes seconds. */
const v2Test = (name: string, work: (context: TestContext) => Promise<void>) =>
  test(name, (context) => {
    if (!isRoot) context.skip('cgroups of one’s own choice need root');
    if (!controllers.includes('memory')) context.skip('this host has no limits in cgroup v2');
    return work(context);
  });

/** Starts it. @returns its cgroup's folder */
async function runDetached(box: Container): Promise<string> {
  await box.ok(`run --detach --pid-file ${join(box.bundle, 'pid')}`);
  return folderOf(box);
}

/** Of its process: what is made of files alone costs no command. */
const folderOf = (box: Container): string => {
  const pid = read(join(box.bundle, 'pid'));
  return join(mountPoint, /^0::(.*)$/m.exec(read(`/proc/${pid}/cgroup`))?.[1] ?? 'no cgroup');
};

/** What the files say, `FILE: VALUE` each. */
const limits = (folder: string, names: readonly string[]): Record<string, string> =>
  Object.fromEntries(names.map((name) => [name, read(join(folder, name)).trim()]));

/** The namespace and the mount that make a cgroup of v2 what a container sees as its own, as Docker has them. */
function ownCgroups(config: Draft, ...options: string[]): void {
  config.linux.namespaces.push({ type: 'cgroup' });
  config.mounts.push(
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: ['nosuid', 'noexec', 'nodev', 'ro'] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: ['nosuid', 'noexec', 'nodev', 'relatime', ...options],
    },
  );
}

/** A whole one: a partition has no limits. */
function disk(): string {
  const [name = ''] = readdirSync('/sys/block').filter((one) => !/^(loop|ram|zram)/.test(one));
  return read(`/sys/block/${name}/dev`).trim();
}

describe('cgroup v2', () => {
  v2Test('limits are set, updated while it runs, shown, and gone with the container', async () => {
    const device = disk();
    const [major = 0, minor = 0] = device.split(':').map(Number);
    const box = ociHost().container('exec sleep 1000', (config) => {
      config.linux.resources = {
        memory: { limit: 64 << 20, reservation: 32 << 20, swap: 80 << 20 },
        cpu: { shares: 512, quota: 50_000, period: 100_000, burst: 10_000, cpus: '0', mems: '0' },
        pids: { limit: 50 },
        blockIO: { weight: 500, throttleReadBpsDevice: [{ major, minor, rate: 1 << 20 }] },
        hugepageLimits: [{ pageSize: '2MB', limit: 4 << 20 }],
        unified: { 'memory.high': String(48 << 20), 'io.max': `${device} wbps=2097152\n${device} riops=70\n` },
      };
    });
    const folder = await runDetached(box);
    const before = {
      'memory.max': String(64 << 20),
      'memory.low': String(32 << 20),
      'memory.high': String(48 << 20),
      'memory.swap.max': String(16 << 20),
      'cpu.weight': '20',
      'cpu.max': '50000 100000',
      'cpu.max.burst': '10000',
      'cpu.idle': '0',
      'cpuset.cpus': '0',
      'cpuset.mems.effective': '0',
      'pids.max': '50',
      'io.weight': 'default 4950',
      'io.max': `${device} rbps=1048576 wbps=2097152 riops=70 wiops=max`,
      'hugetlb.2MB.max': String(4 << 20),
      'hugetlb.2MB.rsvd.max': String(4 << 20),
    };
    expect(limits(folder, Object.keys(before))).toEqual(before);
    const resources = {
      memory: { limit: 96 << 20, swap: 96 << 20 },
      cpu: { quota: -1, burst: 0, idle: 1 },
      pids: { limit: -1 },
      blockIO: { throttleReadBpsDevice: [{ major, minor, rate: 0 }] },
      unified: { 'memory.high': 'max' },
    };
    expect(await box.callWith({ input: JSON.stringify(resources) }, 'update --resources -')).toMatchObject({ code: 0 });
    const after = {
      ...before,
      'memory.max': String(96 << 20),
      'memory.high': 'max',
      'memory.swap.max': '0',
      'cpu.max': 'max 100000',
      'cpu.max.burst': '0',
      'cpu.idle': '1',
      'pids.max': 'max',
      'io.max': `${device} rbps=max wbps=2097152 riops=70 wiops=max`,
    };
    delete (after as Record<string, string>)['cpu.weight']; // an idle one has none
    expect(limits(folder, Object.keys(after))).toEqual(after);
    const { data } = JSON.parse(await box.ok('events --stats'));
    expect(data.memory.usage).toMatchObject({ limit: 96 << 20, usage: expect.any(Number) });
    expect(data.memory.raw).toHaveProperty('anon');
    expect(data.pids).toEqual({ current: 1 });
    expect(data.cpu.usage.total).toBeGreaterThan(0);
    expect(data.hugetlb).toHaveProperty('2MB');
    const { code, stderr } = await box.callWith({ input: '{"unified":{"nothing.max":"1"}}' }, 'update --resources -');
    expect({ code, stderr }).toEqual({
      code: 1,
      stderr: expect.stringContaining('linux.resources.unified[\\"nothing.max\\"]: cgroup v2 has no controller'),
    });
    await box.ok('delete --force');
    expect(existsSync(folder)).toBe(false);
  });

  v2Test('limits hold: memory, processes, processor time; its own cgroup can be seen and not written', async () => {
    const script = `
      cat /proc/self/cgroup; grep cgroup2 /proc/mounts
      cd /sys/fs/cgroup; cat pids.max; echo 9 >pids.max; mkdir inner
      tail -c 200m /dev/zero; echo "eater $?"; cat memory.events
      until grep -q 'nr_throttled [1-9]' cpu.stat; do :; done; echo throttled
      for i in 1 2 3 4 5 6 7 8 9; do sleep 1000 & done`;
    const box = ociHost().container(script, (config, { id }) => {
      ownCgroups(config, 'ro');
      config.linux.cgroupsPath = `/${id}`;
      config.linux.resources = {
        memory: { limit: 32 << 20, swap: 32 << 20 },
        cpu: { quota: 50_000, period: 100_000 },
        pids: { limit: 4 },
      };
    });
    const { code, stdout, stderr } = await box.call('run');
    expect(code).not.toBe(0);
    expect(stdout).toMatch(/^0::\/\ncgroup \/sys\/fs\/cgroup cgroup2 ro,nosuid,nodev,noexec.*\n4\neater 137$/m);
    expect(stdout).toMatch(/^oom_kill 1$/m);
    expect(stdout).toMatch(/^throttled$/m);
    expect(stderr.match(/Read-only file system/g)).toHaveLength(2);
    expect(stderr).toContain("can't fork");
  });

  v2Test('a container that ends for want of memory is told', async () => {
    const box = ociHost().container('exec tail -c 200m /dev/zero', (config) => {
      config.linux.resources = { memory: { limit: 32 << 20, swap: 32 << 20 } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).toBe(137);
    expect(stderr).toContain(`container ${box.id} had no memory left: the kernel killed a process of it`);
  });

  v2Test('what it does not have is an error that names the place in config.json, and leaves nothing', async () => {
    const box = ociHost().container('true', (config) => {
      config.linux.resources = { cpu: { cpus: '0', realtimeRuntime: 5 } };
    });
    const { code, stderr } = await box.call('run');
    expect(code).toBe(1);
    expect(stderr).toContain('linux.resources.cpu.realtimeRuntime: cgroup v2 has no shares of realtime scheduling');
    expect(cgroupsNamed(box.id)).toEqual([]);
  });

  v2Test('a device opens only while a rule allows it', async () => {
    // No driver has this one: past the cgroup, opening it ends with ENXIO, and nothing is touched.
    const own = { type: 'b', major: 240, minor: 5 };
    const rules = (allow: boolean) => [
      { allow: false, access: 'rwm' },
      { ...own, allow, access: 'r' },
    ];
    const box = ociHost().container('while :; do (: </dev/own) 2>&1; sleep 0.1; done', (config) => {
      config.linux.devices = [{ ...own, path: '/dev/own', fileMode: 0o666 }];
      config.linux.resources = { devices: rules(true) };
    });
    await runDetached(box);
    await until('it is allowed', () => /No such device or address\n$/.test(box.output), slowly);
    await box.callWith({ input: JSON.stringify({ devices: rules(false) }) }, 'update --resources -');
    await until('it is denied', () => /Operation not permitted\n$/.test(box.output), slowly);
  });

  v2Test('without a cgroup namespace its own cgroup is what is mounted, and no other', async () => {
    const box = ociHost().container(
      'cat /proc/self/cgroup; cd /sys/fs/cgroup; cat pids.max; echo 9 >pids.max',
      (config) => {
        ownCgroups(config, 'ro');
        config.linux.namespaces.pop();
        config.linux.resources = { pids: { limit: 21 } };
      },
    );
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toMatch(new RegExp(`^0::/.*/${box.id}\n21\n$`));
    expect(stderr).toContain('Read-only file system');
  });

  v2Test('its root divides its cgroup, and exec, ps, pause, kill --all and delete know all of it', async () => {
    const script = `
      set -e; cd /sys/fs/cgroup
      mkdir init work; echo $$ >init/cgroup.procs
      echo +pids +memory >cgroup.subtree_control; echo 30 >work/pids.max
      sh -c 'echo $$ >work/cgroup.procs; exec sleep 1000' & sleep 1000 &
      until grep -q . work/cgroup.procs; do :; done; echo divided; wait`;
    const box = ociHost().container(script, (config) => {
      ownCgroups(config, 'rw');
      config.linux.namespaces.push({ type: 'user' });
      config.linux.uidMappings = [{ containerID: 0, hostID: 300_000, size: 65_536 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 300_000, size: 65_536 }];
      config.linux.resources = { pids: { limit: 20 } };
    });
    await runDetached(box);
    await until('it has divided its cgroup', () => box.output.includes('divided'), slowly);
    const folder = join(folderOf(box), '..');
    expect(limits(folder, ['work/pids.max', 'pids.max'])).toEqual({ 'work/pids.max': '30', 'pids.max': '20' });
    expect(await box.ok('exec', 'cat', '/proc/self/cgroup')).toBe('0::/init\n');
    const pids = JSON.parse(await box.ok('ps --format json')) as number[];
    expect(pids).toHaveLength(3);
    await box.ok('pause');
    expect(limits(folder, ['cgroup.freeze'])).toEqual({ 'cgroup.freeze': '1' });
    expect(read(join(folder, 'work/cgroup.events'))).toMatch(/^frozen 1$/m);
    await box.ok('resume');
    expect(read(join(folder, 'cgroup.events'))).toMatch(/^frozen 0$/m);
    await box.ok('kill --all', 'KILL');
    expect(read(join(folder, 'cgroup.events'))).toMatch(/^populated 0$/m);
    await box.ok('delete');
    expect(existsSync(folder)).toBe(false);
  });

  v2Test('an ordinary user has no limits, unless a cgroup was delegated to it', async (context) => {
    const host = ociHost();
    chmodSync(host.dir, 0o755);
    const root = join(host.dir, 'state-of-user');
    mkdirSync(root);
    chownSync(root, ordinaryUid, ordinaryUid);
    const asUser = `exec setpriv --reuid ${ordinaryUid} --regid ${ordinaryUid} --clear-groups "$@"`;
    const inCgroup = (folder: string, argv: readonly string[]) =>
      host.spawn(['sh', '-c', `echo $$ >${folder}/cgroup.procs && ${asUser}`, 'sh', ...argv], { input: '' }).result;
    const run = (folder: string, { bundle, id }: Container) =>
      inCgroup(folder, [process.execPath, tsvProgram, 'oci', '--root', root, 'run', '--bundle', bundle, id]);
    if ((await inCgroup(mountPoint, ['test', '-r', tsvProgram])).code !== 0)
      context.skip(`an ordinary user cannot read ${tsvProgram}`);

    const plain = join(mountPoint, `${host.mark}-plain`);
    mkdirSync(plain);
    onTestFinished(() => removeCgroup(plain).then(() => {}));
    const look = 'cat /proc/self/cgroup; cd /sys/fs/cgroup; ls -d cgroup.procs *.slice; echo 0 >cgroup.freeze';
    const seen = await run(plain, host.container(look, rootless));
    expect(seen.stdout, 'nothing of the host').toBe('0::/\ncgroup.procs\n');
    expect(seen.stderr).toContain('Read-only file system');

    const script = 'cat /proc/self/cgroup /sys/fs/cgroup/pids.max /sys/fs/cgroup/memory.max';
    const limited = host.container(script, (config) => {
      rootless(config);
      config.linux.resources = { memory: { limit: 32 << 20 }, pids: { limit: 9 } };
    });
    expect(await run(plain, limited)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('linux.resources.memory.limit: this user may make no cgroup in'),
    });

    // What systemd does for the manager of a user (systemd.resource-control(5), Delegate=).
    const delegated = join(mountPoint, `${host.mark}-user`);
    const session = join(delegated, 'session');
    mkdirSync(session, { recursive: true });
    onTestFinished(async () => {
      for (const path of [session, delegated]) await removeCgroup(path);
    });
    for (const file of [
      '',
      'cgroup.procs',
      'cgroup.subtree_control',
      'cgroup.threads',
      'session',
      'session/cgroup.procs',
    ])
      chownSync(join(delegated, file), ordinaryUid, ordinaryUid);
    expect(await run(session, limited)).toEqual({ code: 0, stdout: `0::/\n9\n${32 << 20}\n`, stderr: '' });
    expect(readdirSync(delegated).filter((name) => name.startsWith(limited.id))).toEqual([]);
  });
});

/** Of nobody. */
const ordinaryUid = 64_321;

/** As `tsv oci spec --rootless` has it: root inside is the user outside, and /sys is the host's. */
function rootless(config: Draft): void {
  ownCgroups(config, 'ro');
  config.mounts = config.mounts.map((mount) =>
    mount.destination === '/sys' ? { ...mount, source: '/sys', type: 'none', options: ['rbind', 'ro'] } : mount,
  );
  config.linux.namespaces.push({ type: 'user' });
  config.linux.uidMappings = [{ containerID: 0, hostID: ordinaryUid, size: 1 }];
  config.linux.gidMappings = [{ containerID: 0, hostID: ordinaryUid, size: 1 }];
}
