import { describe, expect, test } from 'vitest';
import { containerConfig, defaultCapabilities } from '../../../providers/namespace/config.ts';
import type { OciConfig } from '../../../providers/namespace/oci.ts';
import { type ContainerProgram, containerProgram, execProgram } from '../../../providers/namespace/program.ts';
import type { Machine } from '../../../src/model/project.ts';
import type { MachineContext } from '../../../src/model/provider.ts';
import { RESOLVE } from '../../../src/sys/flags.ts';
import { printProgram, printStep, type Step } from '../../../src/sys/program.ts';

/* The whole of what a container's first process does before its command, as text: *.program.txt is to be read, too. */

const machine: Machine = {
  name: 'web-1',
  group: 'web',
  kind: 'container',
  box: 'debian-12',
  hostname: 'web-1',
  memoryBytes: 1 << 28,
  cpus: 0.5,
  pids: 100,
  command: ['nginx', '-g', 'daemon off;'],
  env: { COLOUR: 'blue' },
  networks: [],
  forwards: [],
  shares: [
    { host: import.meta.dirname, guest: '/srv/site', readonly: true },
    { host: import.meta.filename, guest: '/etc/conf.d/site.conf', readonly: false },
  ],
  disks: [],
  dependsOn: [],
  provision: [],
  bootTimeoutMs: 1,
  stopTimeoutMs: 1,
  accel: 'auto',
};
const config = (change: Partial<Machine> = {}): OciConfig => {
  const context = {
    machine: { ...machine, ...change },
    projectId: 'id',
    projectName: 'shop',
  } as unknown as MachineContext;
  return containerConfig(context, [{ inside: 0, outside: 0x6fff0000, count: 65536 }]);
};
const request = (change: Partial<ContainerProgram> = {}): ContainerProgram => ({
  config: config(),
  layers: { lower: ['/store/debian'], upper: '/m/upper', work: '/m/work', mountPoint: '/m/rootfs', userxattr: false },
  cgroups: 2,
  files: { '/etc/hostname': 'web-1\n' },
  rootId: 0x6fff0000,
  mapShares: true,
  lastCapability: 40,
  ...change,
});
/** Steps before and after the fork are one sequence for the container's first process. */
const lines = (steps: readonly Step[]): string[] =>
  printProgram(steps)
    .replaceAll(import.meta.dirname, '/here')
    // Names of results are made unique by a counter of the whole process.
    .replace(/\b(opened \S+) \d+ (?:null|\{[^}]*\}) \d+/g, '$1')
    .split('\n');
const index = (text: readonly string[], pattern: RegExp): number => {
  const found = text.findIndex((line) => pattern.test(line));
  expect(found, String(pattern)).toBeGreaterThanOrEqual(0);
  return found;
};
const lastIndex = (text: readonly string[], pattern: RegExp): number =>
  text.length - 1 - index([...text].reverse(), pattern);

describe('the program of a container', () => {
  const text = lines(containerProgram(request()));

  test('is this', async () => {
    await expect(`${text.join('\n')}\n`).toMatchFileSnapshot('container.program.txt');
  });

  test('joins its cgroups before anything of the container happens', () => {
    expect(text.slice(1, 3)).toEqual([
      'write fd:cgroup0 0 1 # join the cgroup',
      'write fd:cgroup1 0 1 # join the cgroup',
    ]);
  });

  test('mounts the root file system and shares with the rights of the runtime, then gives them up', () => {
    const userNamespace = index(text, /^unshare .*CLONE_NEWUSER/);
    expect(index(text, /^unshare CLONE_NEWNS$/)).toBeLessThan(index(text, /MS_PRIVATE/));
    expect(index(text, /MS_PRIVATE/)).toBeLessThan(index(text, /^mount overlay/));
    expect(lastIndex(text, /# share at/)).toBeLessThan(userNamespace);
    for (const kind of ['NEWNS', 'NEWPID', 'NEWNET', 'NEWUTS', 'NEWIPC', 'NEWCGROUP'])
      expect(text[userNamespace]).toContain(`CLONE_${kind}`);
  });

  test('waits until the runtime has mapped its ids, and becomes root of them before it mounts anything more', () => {
    const [unshared, go, fork, root] = [/^report unshared/, /^read fd:go/, /^fork/, /^setresuid 0 0 0/].map((pattern) =>
      index(text, pattern),
    );
    expect([unshared, go, fork, root]).toEqual([...[unshared, go, fork, root]].sort((a = 0, b = 0) => a - b));
    expect(root).toBeLessThan(index(text, /^mount proc/));
  });

  test('never mounts what it is given through a path: shares and kernel file systems go to descriptors', () => {
    for (const line of text.filter((line) => /^mount (proc|sysfs|tmpfs|devpts|shm|mqueue) .* # \//.test(line)))
      expect(line).toMatch(/^mount \S+ @dir /);
    for (const line of text.filter((line) => line.startsWith('move_mount fd:tree') && line.includes('# share')))
      expect(line).toMatch(/^move_mount fd:tree '' fd:dir '' /);
  });

  test('resolves every path of the image inside the root, never through a link of /proc', () => {
    const resolved = containerProgram(request()).flatMap((step) => {
      const how = 'call' in step && step.call === 'openat2' ? step.args[2] : undefined;
      return typeof how === 'object' && 'bytes' in how ? [Number(Buffer.from(how.bytes).readBigUInt64LE(16))] : [];
    });
    expect(resolved.length).toBeGreaterThan(15);
    for (const flags of resolved) {
      expect(flags & RESOLVE.NO_MAGICLINKS).not.toBe(0);
      expect(flags & (RESOLVE.IN_ROOT | RESOLVE.BENEATH)).not.toBe(0);
    }
  });

  test('shows the owners of shares through the id map; a read-only one does without where that is not possible', () => {
    const mapped = text.filter((line) => line.includes('# owners of the share'));
    expect(mapped.map((line) => /\(may\)/.test(line))).toEqual([true, false]);
    expect(lines(containerProgram(request({ mapShares: false }))).join('\n')).not.toContain('fd:userns');
  });

  test('hides every masked path and protects every read-only one before it enters the root', () => {
    const pivot = index(text, /^pivot_root/);
    const { maskedPaths, readonlyPaths } = config().linux;
    expect(maskedPaths).toEqual(
      expect.arrayContaining(['/proc/kcore', '/proc/keys', '/proc/timer_list', '/sys/firmware']),
    );
    for (const path of maskedPaths)
      expect(lastIndex(text, new RegExp(`^mount .* ${path.slice(1)}/? .*# hidden`))).toBeLessThan(pivot);
    expect(readonlyPaths).toEqual(expect.arrayContaining(['/proc/sys', '/proc/sysrq-trigger']));
    for (const path of readonlyPaths)
      expect(lastIndex(text, new RegExp(`^mount .* ${path.slice(1)} .*MS_RDONLY.*# read-only`))).toBeLessThan(pivot);
    expect(text.slice(pivot, pivot + 3)).toEqual(['pivot_root . .', 'umount2 . 2', 'chdir /']);
  });

  test('drops every capability but its own from the bounding set, then from itself, then gives up the way to new ones', () => {
    const dropped = text.flatMap((line) => /# drop (\w+)/.exec(line)?.[1] ?? []);
    expect(dropped).toHaveLength(41 - defaultCapabilities.length);
    expect(dropped.filter((name) => (defaultCapabilities as readonly string[]).includes(name))).toEqual([]);
    const [bounding, user, capset, privileges, gate, execve] = [
      /# drop/,
      /^setresuid/,
      /^capset/,
      /^prctl 38 1/,
      /^read fd:go/,
      /^execve/,
    ].map((pattern) => lastIndex(text, pattern));
    const order = [index(text, /^pivot_root/), bounding, user, capset, privileges, gate, execve];
    expect(order).toEqual([...order].sort((a = 0, b = 0) => a - b));
  });

  test('waits a second time, until it is recorded, and then only executes', () => {
    const gates = text.flatMap((line, i) => (line.startsWith('read fd:go') ? [i] : []));
    expect(gates).toHaveLength(2);
    const rest = text.slice((gates[1] ?? 0) + 1).map((line) => line.split(' ')[0]);
    expect(new Set(rest)).toEqual(new Set(['dup3', 'rt_sigprocmask', 'execve']));
  });

  test('looks for its command in PATH like a shell; the last failure counts', () => {
    const tries = text.filter((line) => line.startsWith('execve'));
    expect(tries).toHaveLength(6);
    expect(tries[0]).toMatch(
      /^execve \/usr\/local\/sbin\/nginx \[nginx -g daemon off;\] \[PATH=.* COLOUR=blue\] \(may\)$/,
    );
    expect(tries[5]).toMatch(/^execve \/bin\/nginx .*\]$/);
    const direct = lines(containerProgram(request({ config: config({ command: ['/opt/run', 'a'] }) })));
    expect(direct.filter((line) => line.startsWith('execve'))).toHaveLength(1);
  });

  test('executes the init by descriptor when there is no command', () => {
    const { command: _, ...plain } = machine;
    const without = {
      ...config(),
      process: {
        ...config().process,
        args: containerConfig({ machine: plain, projectId: 'id' } as unknown as MachineContext, []).process.args,
      },
    };
    expect(lines(containerProgram(request({ config: without }))).at(-1)).toMatch(
      /^execveat fd:init '' \[tsv-init\] \[.*\] 4096$/,
    );
  });

  test('differs without root in the attributes of the overlay only', () => {
    const layers = { ...request().layers, userxattr: true };
    const without = lines(containerProgram(request({ layers })));
    const changed = text.flatMap((line, i) => (line === without[i] ? [] : [[line, without[i]]]));
    expect(changed).toEqual([
      [
        'mount overlay /m/rootfs overlay MS_NODEV lowerdir=/store/debian,upperdir=/m/upper,workdir=/m/work # root file system',
        'mount overlay /m/rootfs overlay MS_NODEV lowerdir=/store/debian,upperdir=/m/upper,workdir=/m/work,userxattr # root file system',
      ],
    ]);
  });

  test('escapes what overlay options would take for separators', () => {
    const layers = { lower: ['/a:b', '/c,d'], upper: '/e\\f', work: '/w', mountPoint: '/m', userxattr: false };
    expect(lines(containerProgram(request({ layers }))).find((line) => line.startsWith('mount overlay'))).toContain(
      'lowerdir=/a\\:b:/c\\,d,upperdir=/e\\\\f,workdir=/w',
    );
  });
});

describe('the program of a command in a container', () => {
  const exec = (change: Partial<Parameters<typeof execProgram>[0]> = {}) =>
    lines(
      execProgram({
        argv: ['id', '-u'],
        env: ['PATH=/usr/bin:/bin'],
        cwd: '/home/anna',
        user: { uid: 1000, gid: 1000, groups: [27, 100] },
        terminal: false,
        cgroups: 1,
        capabilities: defaultCapabilities,
        lastCapability: 40,
        ...change,
      }),
    );

  test('is this', async () => {
    await expect(`${exec().join('\n')}\n`).toMatchFileSnapshot('exec.program.txt');
  });

  test('enters all namespaces at once, then forks into the new process namespace', () => {
    const text = exec();
    const enter = index(text, /^setns fd:target/);
    for (const kind of ['USER', 'NS', 'PID', 'NET', 'UTS', 'IPC', 'CGROUP', 'TIME'])
      expect(text[enter]).toContain(`CLONE_NEW${kind}`);
    expect(text[enter + 1]).toMatch(/^fork CLONE_PARENT/);
  });

  test('changes to the working directory with the rights of the user, below the gate of no new privileges', () => {
    const text = exec();
    const order = [
      /^setns/,
      /# drop/,
      /^setresuid 1000 1000 1000/,
      /^capset/,
      /^prctl 38 1/,
      /^chdir \/home\/anna # working directory/,
      /^execve/,
    ].map((pattern) => index(text, pattern));
    expect(order).toEqual([...order].sort((a, b) => a - b));
  });

  test('leaves capabilities to root only', () => {
    const data = (user: { uid: number; gid: number; groups: number[] }) => {
      const step = execProgram({
        argv: ['id'],
        env: [],
        cwd: '/',
        user,
        terminal: false,
        cgroups: 0,
        capabilities: defaultCapabilities,
        lastCapability: 40,
      }).find((candidate) => 'call' in candidate && candidate.call === 'capset');
      const argument = step !== undefined && 'args' in step ? step.args[1] : undefined;
      return typeof argument === 'object' && 'bytes' in argument
        ? [...argument.bytes].some((byte) => byte !== 0)
        : undefined;
    };
    expect(data({ uid: 0, gid: 0, groups: [] })).toBe(true);
    expect(data({ uid: 1000, gid: 0, groups: [0] })).toBe(false);
  });

  test('makes the terminal its controlling one, after it is in place', () => {
    const text = exec({ terminal: true });
    expect(index(text, /# TIOCSCTTY/)).toBeGreaterThan(lastIndex(text, /^dup3/));
    expect(index(text, /^setsid/)).toBeLessThan(index(text, /# TIOCSCTTY/));
    expect(exec().join('\n')).not.toContain('TIOCSCTTY');
  });
});

test('a program holds no step that prints as nothing', () => {
  for (const step of containerProgram(request())) expect(printStep(step)).not.toBe('');
});
