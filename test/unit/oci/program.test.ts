import { describe, expect, test } from 'vitest';
import { containerConfig, usualCapabilities } from '../../../providers/namespace/config.ts';
import { isolationOf, type Machine } from '../../../src/model/project.ts';
import type { MachineContext } from '../../../src/model/provider.ts';
import { type CreateProgram, createProgram } from '../../../src/oci/create-program.ts';
import type { OciConfig } from '../../../src/oci/spec.ts';
import { dataAddress } from '../../../src/sys/elf.ts';
import { O, RESOLVE } from '../../../src/sys/flags.ts';
import { layOut } from '../../../src/sys/image.ts';
import { printStep } from '../../../src/sys/program.ts';
import {
  calls,
  cgroup1,
  descriptorsOf,
  dockerLike,
  expectOrder,
  here,
  index,
  lastIndex,
  lines,
  minimal,
  requestFor,
  rootlessSpec,
  runcSpec,
  thisFile,
} from './program-requests.ts';

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
    { host: here, guest: '/srv/site', readonly: true },
    { host: thisFile, guest: '/etc/conf.d/site.conf', readonly: false },
  ],
  disks: [],
  dependsOn: [],
  provision: [],
  bootTimeoutMs: 1,
  stopTimeoutMs: 1,
  accel: 'auto',
};

function tsfileConfig(change: Partial<Machine> = {}): OciConfig {
  const context = {
    machine: { ...machine, ...change },
    projectId: 'id',
    projectName: 'shop',
  } as unknown as MachineContext;
  return containerConfig(context, {
    ids: [{ inside: 0, outside: 0x6fff0000, count: 65536 }],
    lastCapability: 40,
    user: { uid: 0, gid: 0, groups: [], home: '/root' },
    seccomp: undefined,
    devices: [],
    limitedDisks: [],
  });
}

const layers = {
  lower: ['/store/debian'],
  upper: '/m/upper',
  work: '/m/work',
  mountPoint: '/m/rootfs',
  userxattr: false,
};
const tsfile = (change: Partial<CreateProgram> = {}, config = tsfileConfig()): CreateProgram =>
  requestFor(config, {
    rootfs: layers,
    files: { '/etc/hostname': 'web-1\n' },
    ownStdio: ['stdout', 'stderr'],
    host: { idmap: () => 'bindmap', idmapOptional: true },
    ...change,
  });
const requests: Readonly<Record<string, () => CreateProgram>> = {
  tsfile: () => tsfile(),
  runc: () => requestFor(runcSpec()),
  rootless: () => requestFor(rootlessSpec(), { privileged: false, groups: 'may', cgroups: 0 }),
  docker: () => requestFor(dockerLike(), { gate: 'fifo', preserved: 1 }),
};
const named = Object.keys(requests).map((name) => [name, requests[name] as () => CreateProgram] as const);
const text = (request: CreateProgram): string[] => lines(createProgram(request));
/** Steps that nothing else decides on. */
const plain = (request: CreateProgram): string[] => text(request).filter((line) => !/^\s|^else$/.test(line));

describe.each(named)('the program of a %s container', (name, request) => {
  test('is this', async () => {
    await expect(`${text(request()).join('\n')}\n`).toMatchFileSnapshot(`${name}.program.txt`);
  });

  test('can be laid out with the descriptors that it is given', () => {
    const known = [...descriptorsOf(request())];
    const fdNumber = (fd: string): number => {
      expect(known).toContain(fd);
      return 10 + known.indexOf(fd);
    };
    expect(layOut(createProgram(request()), dataAddress, fdNumber).steps.size).toBeGreaterThan(50);
  });

  test('joins its cgroups before anything of the container happens', () => {
    const { cgroups } = request();
    const joins = Array.from({ length: cgroups }, (_, i) => `write fd:cgroup${i} 0 1 # join the cgroup`);
    expect(text(request()).slice(0, 2 + cgroups)).toEqual(['umask 0', 'setsid', ...joins]);
  });

  test('tells how far it is, and waits each time', () => {
    const steps = plain(request());
    const reports = steps.flatMap((line, i) => (line.startsWith('report') ? [[line.split(' ')[1], steps[i + 1]]] : []));
    const gate = request().gate === 'fifo' ? 'dup3 fd:result fd:status 524288' : 'read fd:go <8 bytes> 1 (positive)';
    expect(reports).toEqual([
      ['unshared', 'read fd:go <8 bytes> 1 (positive)'],
      ['mounted', 'read fd:go <8 bytes> 1 (positive)'],
      ['ready', gate],
    ]);
    expect(index(steps, /^report unshared/)).toBeLessThan(index(steps, /^fork/));
    expect(index(steps, /^fork/)).toBeLessThan(index(steps, /^report mounted/));
  });

  test('resolves every path of the image inside the root, never through a link of /proc', () => {
    const resolved = calls(createProgram(request())).flatMap(({ call, args: [from, path, how] }) =>
      call === 'openat2' && typeof how === 'object' && 'bytes' in how
        ? [{ from, path, resolve: Number(Buffer.from(how.bytes).readBigUInt64LE(16)) }]
        : [],
    );
    expect(resolved.length).toBeGreaterThan(15);
    // The paths of the host: its /proc, where a sysctl can be set by no other, and its root, to leave it.
    const rooted = RESOLVE.IN_ROOT | RESOLVE.BENEATH;
    expect(resolved.filter(({ resolve }) => (resolve & rooted) === 0).map(({ path }) => path)).toEqual([
      ...(request().config.linux?.sysctl === undefined ? [] : ['/proc', '/proc']),
      '/',
    ]);
    for (const { resolve, path } of resolved) expect(resolve & RESOLVE.NO_MAGICLINKS, String(path)).not.toBe(0);
    for (const { path } of resolved.filter(({ resolve }) => (resolve & rooted) !== 0)) {
      expect(path, 'openat2 from /proc/self/fd/… would leave the root').not.toMatch(/^\//);
    }
  });

  test('opens nothing that a command could keep: every descriptor is closed by execve', () => {
    for (const step of calls(createProgram(request()))) {
      const [, target, flags] = step.args;
      if (step.call === 'openat2' && typeof flags === 'object' && 'bytes' in flags)
        expect(Number(Buffer.from(flags.bytes).readBigUInt64LE(0)) & O.CLOEXEC, printStep(step)).not.toBe(0);
      if (step.call === 'dup3' && typeof target === 'object') expect(flags, printStep(step)).toBe(O.CLOEXEC);
    }
  });

  test('never mounts in the container through a path of its own: only on descriptors, and on its root', () => {
    const steps = text(request());
    const inside = steps.slice(index(steps, /^fork/)).map((line) => line.trim());
    const mounts = inside.filter((line) => /^(if present: |if possible: )?mount /.test(line));
    expect(mounts.length).toBeGreaterThan(5);
    for (const line of mounts) expect(line).toMatch(/mount \S+ (@dir|\.|\/) /);
    for (const line of inside.filter((line) => line.startsWith('move_mount') && !line.endsWith(' -100 . 4')))
      expect(line).toMatch(/^move_mount fd:\w+ '' fd:dir '' 68/);
  });

  test('lets go of every folder of the host before it says that all is mounted', () => {
    const steps = plain(request());
    const mounted = index(steps, /^report mounted/);
    request().mounts.forEach(({ kind }, i) => {
      if (kind !== 'bind') return;
      const attached = index(steps, new RegExp(`^move_mount fd:bind${i} `));
      expect(steps[attached + 1]).toBe(`close fd:bind${i}`);
      expect(lastIndex(steps, new RegExp(`fd:bind${i}\\b`))).toBeLessThan(mounted);
    });
  });

  test('leaves the host behind before it resolves the working directory, and takes no descriptor of it along', () => {
    const steps = plain(request());
    const pivot = index(steps, /^pivot_root \. \./);
    expect(steps.slice(pivot - 3, pivot + 6)).toEqual([
      'openat2 -100 / <24 bytes> 24 as the old root',
      'dup3 $the old root fd:root 524288',
      'close $the old root',
      'pivot_root . .',
      'fchdir fd:root',
      "mount none . '' MS_REC|MS_SLAVE 0",
      'umount2 . 2',
      'close fd:root',
      'chdir /',
    ]);
    expect(lastIndex(steps, /fd:root\b/)).toBe(pivot + 4);
    expect(index(steps, /^openat2 .*# working directory/)).toBeGreaterThan(pivot);
  });

  test('hides every masked path and protects every read-only one before it enters the root', () => {
    const steps = text(request());
    const pivot = index(steps, /^pivot_root/);
    const { maskedPaths = [], readonlyPaths = [] } = request().config.linux ?? {};
    expect(maskedPaths.length * readonlyPaths.length).toBeGreaterThan(0);
    for (const path of maskedPaths) {
      const first = index(steps, new RegExp(`^if present: openat2 -100 ${path.slice(1)} `));
      expect(steps.slice(first + 3, first + 6)).toEqual([
        `  if present: mount /dev/null @dir '' MS_BIND 0 # hide ${path}`,
        '  else',
        `    mount tmpfs @dir tmpfs MS_RDONLY|MS_NOSUID|MS_NODEV|MS_NOEXEC size=0,nr_inodes=2 # hide ${path}`,
      ]);
      expect(first).toBeLessThan(pivot);
    }
    for (const path of readonlyPaths) {
      const first = index(steps, new RegExp(`^  open_tree fd:dir '' .*# read-only ${path}$`));
      expect(steps.slice(first + 3, first + 5)).toEqual([
        "  mount_setattr fd:tree '' 36864 {1 0 0 0} 32",
        "  move_mount fd:tree '' fd:dir '' 68",
      ]);
      expect(first).toBeLessThan(pivot);
    }
  });

  test('drops every capability but its own from the bounding set, then becomes its user, then reduces itself', () => {
    const steps = text(request());
    const kept = request().config.process?.capabilities?.bounding ?? [];
    const dropped = steps.flatMap((line) => /^prctl 24 \d+ # drop (\w+)/.exec(line)?.[1] ?? []);
    expect(dropped).toHaveLength(41 - kept.length);
    expect(dropped.filter((capability) => kept.includes(capability))).toEqual([]);
    const order = [/^pivot_root/, /# drop/, /^setresuid/, /^capset/, /^report ready/, /^execve/].map((pattern) =>
      lastIndex(steps, pattern),
    );
    expect(order).toEqual([...order].sort((a, b) => a - b));
    expect(steps.filter((line) => line.startsWith('capset'))).toHaveLength(1);
  });

  test('waits a last time, and then only puts its descriptors in place, filters and executes', () => {
    const steps = plain(request());
    const { linux, process: { noNewPrivileges = false } = {} } = request().config;
    const rest = steps.slice(lastIndex(steps, /^read fd:/) + 1).map((line) => line.split(' ')[0]);
    // Without no_new_privs the filter, and so all that must come before it, was before the rights were given up.
    const late = ['dup3', 'rt_sigprocmask', ...(linux?.seccomp === undefined ? [] : ['seccomp'])];
    expect([...new Set(rest)]).toEqual([...(noNewPrivileges ? late : []), 'execve']);
    expect(steps.at(-1)).not.toContain('(may)');
  });

  test('passes over no error but these', () => {
    const passed = calls(createProgram(request())).filter(({ mode }) => mode === 'may');
    const harmless: Readonly<Record<string, RegExp>> = {
      mkdirat: /^mkdirat fd:dir \S+ 493/, // it is opened next, and has to be there
      symlinkat: /^symlinkat (\/proc\/(self\/fd|kcore)|pts\/ptmx|cpu,)/, // what the image has stays
      unlinkat: /^unlinkat fd:dir \S+ 0/, // it is made next, exclusively
      keyctl: /^keyctl 1 0/, // a kernel without keyrings
      fchown: /^fchown fd:std/, // the caller's file
      execve: /^execve /, // the next folder of PATH
      mount_setattr: /^mount_setattr fd:bind\d+ '' \d+ \{1048576 /, // an id map that is not needed
      setgroups: /^setgroups 0 /, // a user namespace that forbids it has none to give
    };
    for (const step of passed) expect(printStep(step)).toMatch(harmless[step.call] ?? /^never/);
    if (request().privileged) expect(passed.map(({ call }) => call)).not.toContain('setgroups');
  });

  test('holds no step that prints as nothing', () => {
    for (const step of createProgram(request())) expect(printStep(step)).not.toBe('');
  });
});

describe('the program of a Tsfile container', () => {
  const steps = text(tsfile());

  test('mounts the root file system and takes hold of shares with the rights of the runtime, then gives them up', () => {
    const userNamespace = index(steps, /^unshare .*CLONE_NEWUSER/);
    expectOrder(
      steps,
      /^unshare CLONE_NEWNS$/,
      /^mount none \/ '' MS_REC\|MS_PRIVATE/,
      /^mount overlay/,
      /^open_tree -100 \/here/,
    );
    expect(lastIndex(steps, /^open_tree -100 \/here/)).toBeLessThan(userNamespace);
    for (const kind of ['NEWNS', 'NEWPID', 'NEWNET', 'NEWUTS', 'NEWIPC', 'NEWCGROUP'])
      expect(steps[userNamespace]).toContain(`CLONE_${kind}`);
    expectOrder(steps, /^unshare CLONE_NEWTIME$/, /^unshare .*CLONE_NEWUSER/);
  });

  test('takes its device nodes in with the rights of the runtime, and leaves nothing else of where they were made', () => {
    const userNamespace = index(steps, /^unshare .*CLONE_NEWUSER/);
    expect(lastIndex(steps, /^mknodat/)).toBeLessThan(userNamespace);
    expectOrder(steps, /^mount tmpfs \/m\/rootfs/, /^mknodat/, /^umount2 \/m\/rootfs 2/, /^mount overlay \/m\/rootfs/);
    expect(steps.filter((line) => /^move_mount fd:device\d/.test(line))).toHaveLength(6);
    expect(steps.filter((line) => /^close fd:device\d/.test(line))).toHaveLength(6);
  });

  test('waits until the runtime has mapped its ids, and becomes root of them before it mounts anything more', () => {
    expectOrder(
      steps,
      /^report unshared/,
      /^read fd:go/,
      /^fork/,
      /^setresuid 0 0 0/,
      /^move_mount .* -100 \. 4/,
      /^mount proc/,
    );
  });

  test('shows the owners of shares through the id map', () => {
    const maps = steps.filter((line) => line.includes('has no idmapped mounts'));
    expect(maps.map((line) => /\{(.*?)\}/.exec(line)?.[1])).toEqual([
      '1048576 0 0 fd:bindmap',
      '1048576 0 0 fd:bindmap',
    ]);
    const without = text(tsfile({ mounts: requestFor(tsfileConfig()).mounts }));
    expect(without.join('\n')).not.toContain('bindmap');
  });

  test('a share that can be written needs its id map; a read-only one does without where that is not possible', () => {
    const maps = steps.filter((line) => line.includes('has no idmapped mounts'));
    expect(maps.map((line) => line.includes('(may)'))).toEqual([true, false]);
  });

  test('a read-only share is so with all below it, before anybody can see it', () => {
    const [opened, restricted, attached] = [
      /^open_tree -100 \/here /,
      /^mount_setattr fd:bind\d+ '' 36864 \{7 0 0 0\}/,
      /^move_mount fd:bind/,
    ];
    expectOrder(steps, opened as RegExp, restricted as RegExp, attached as RegExp);
  });

  test('gives up the way to new privileges last, then filters system calls', () => {
    expectOrder(steps, /^capset/, /^prctl 38 1 0 0 0/, /^report ready/, /^seccomp 1 \d+ /, /^execve/);
    expect(tsfile().config.process?.capabilities?.bounding).toEqual(expect.arrayContaining(['CAP_CHOWN']));
    expect(usualCapabilities).not.toContain('CAP_NET_RAW');
  });

  test('looks for its command in PATH like a shell; the last failure counts', () => {
    const tries = steps.filter((line) => line.startsWith('execve'));
    expect(tries).toHaveLength(6);
    expect(tries[0]).toMatch(
      /^execve \/usr\/local\/sbin\/nginx \[nginx -g daemon off;\] \[PATH=.* COLOUR=blue\] \(may\) # the command$/,
    );
    expect(tries[5]).toMatch(/^execve \/bin\/nginx .*\] # the command$/);
    const direct = text(tsfile({}, tsfileConfig({ command: ['/opt/run', 'a'] })));
    expect(direct.filter((line) => line.startsWith('execve'))).toHaveLength(1);
  });

  test('knows whether there is a command before it says that it is ready', () => {
    const ready = index(steps, /^report ready/);
    const looked = index(steps, /^if possible: faccessat -100 \/usr\/local\/sbin\/nginx 1 # the command/);
    expect(looked).toBeGreaterThan(index(steps, /^capset/));
    expect(looked).toBeLessThan(ready);
    expect(steps[ready - 1]?.trim()).toBe('faccessat -100 /bin/nginx 1 # the command');
  });

  test('executes the init by descriptor when there is no command', () => {
    const { command: _, ...rest } = machine;
    const none = { ...tsfileConfig(), process: { ...tsfileConfig().process, args: [], cwd: '/' } };
    expect(isolationOf(rest).init).toBe(true);
    const program = text(tsfile({ init: true }, none));
    expect(program.at(-1)).toMatch(/^execveat fd:init '' \[tsv-init\] \[.*\] 4096$/);
    expect(program.join('\n')).not.toContain('the command');
  });

  test('with an init and a command, the init is process 1 and the command its child', () => {
    const program = createProgram(tsfile({ init: true, preserved: 1 }));
    const fork = program.findLast((step) => 'fork' in step);
    const parent = fork !== undefined && 'fork' in fork ? fork.parent : [];
    expect(lines(parent).at(-1)).toMatch(/^execveat fd:init '' \[tsv-init -\] \[.*\] 4096$/);
    expect(lines(parent).join('\n')).not.toContain('preserved');
    expect(fork !== undefined && 'fork' in fork ? fork.fork : 0).toBe(17); // a child of its own, no sibling
    expectOrder(lines(parent), /^dup3 fd:stderr 2 0/, /^seccomp/, /^execveat/);
    // Before anybody hears of the container: nobody else can be process 2.
    expectOrder(lines(program), /^capset/, /^fork .*as command$/, /^report ready/, /^seccomp/, /^execve/);
    expect(lines(program).at(-1)).toMatch(/^execve \/bin\/nginx/);
  });

  test('differs without root in the attributes of the overlay only', () => {
    const without = text(tsfile({ rootfs: { ...layers, userxattr: true } }));
    const changed = steps.flatMap((line, i) => (line === without[i] ? [] : [[line, without[i]]]));
    expect(changed).toEqual([
      [
        'mount overlay /m/rootfs overlay MS_NODEV lowerdir=/store/debian,upperdir=/m/upper,workdir=/m/work # root file system',
        'mount overlay /m/rootfs overlay MS_NODEV lowerdir=/store/debian,upperdir=/m/upper,workdir=/m/work,userxattr # root file system',
      ],
    ]);
  });

  test('takes layers by short names from a folder, where their paths are too long together', () => {
    const many = { ...layers, lower: ['0', '1', '2'], folder: '/m/lower' };
    const lines = text(tsfile({ rootfs: many }));
    const at = lines.findIndex((line) => line.startsWith('mount overlay'));
    expect(lines.slice(at - 1, at + 2)).toEqual([
      'chdir /m/lower',
      'mount overlay /m/rootfs overlay MS_NODEV lowerdir=0:1:2,upperdir=/m/upper,workdir=/m/work # root file system',
      'chdir /m/rootfs',
    ]);
  });

  test('escapes what overlay options would take for separators', () => {
    const odd = { lower: ['/a:b', '/c,d'], upper: '/e\\f', work: '/w', mountPoint: '/m', userxattr: false };
    expect(text(tsfile({ rootfs: odd })).find((line) => line.startsWith('mount overlay'))).toContain(
      'lowerdir=/a\\:b:/c\\,d,upperdir=/e\\\\f,workdir=/w',
    );
  });

  test('writes its files where no link leads, after all mounts and before it is told that they are there', () => {
    const first = index(steps, /^write fd:file <6 bytes> 6 # \/etc\/hostname/);
    expect(steps.slice(first - 4, first)).toEqual([
      'unlinkat fd:dir hostname 0 (may)',
      expect.stringMatching(/^openat2 fd:dir hostname <24 bytes> 24/),
      'dup3 $what was opened for file fd:file 524288',
      'close $what was opened for file',
    ]);
    expectOrder(steps, /^move_mount fd:bind/, /# \/etc\/hostname/, /^report mounted/);
  });

  test('a read-only root is made so last, and nothing but it', () => {
    const program = text(tsfile({}, { ...tsfileConfig(), root: { path: 'rootfs', readonly: true } }));
    expect(program.filter((line) => !steps.includes(line))).toEqual([
      'mount_setattr -100 / 0 {1 0 0 0} 32 # read-only root',
    ]);
    expectOrder(program, /^pivot_root/, /# read-only root/, /^capset/);
  });
});

describe('a caller without privileges', () => {
  const request = requests.rootless as () => CreateProgram;
  const steps = text(request());

  test('makes the user namespace first, and all the rest as its root', () => {
    expectOrder(
      steps,
      /^unshare CLONE_NEWUSER$/,
      /^report unshared/,
      /^read fd:go/,
      /^setresuid 0 0 0/,
      /^unshare CLONE_NEWNS$/,
      /^mount \/bundle\/rootfs/,
      /^unshare .*CLONE_NEWPID/,
      /^fork/,
    );
    expect(steps.filter((line) => line.startsWith('unshare') && line.includes('NEWUSER'))).toHaveLength(1);
    expect(steps.join('\n')).not.toContain('# join the cgroup');
  });

  test('binds the devices of the host: nobody can make others', () => {
    expect(steps.join('\n')).not.toContain('mknodat');
    expect(steps.filter((line) => /^mount \/dev\/\w+ @dir '' MS_BIND/.test(line))).toHaveLength(6);
  });

  test('binds /sys of the host with all below it', () => {
    expect(steps.find((line) => line.includes('# mounts[5].source: /sys'))).toMatch(/^open_tree -100 \/sys 557057 /);
  });

  test('sets the offsets of its time namespace before the first process is in it', () => {
    const config = rootlessSpec();
    const namespaces = [...(config.linux?.namespaces ?? []), { type: 'time' as const }];
    const linux = { ...config.linux, namespaces, timeOffsets: { monotonic: { secs: 7 } } };
    const program = text(requestFor({ ...config, linux }, { privileged: false, groups: 'may' }));
    expectOrder(program, /^unshare CLONE_NEWUSER$/, /^unshare CLONE_NEWTIME$/, /# linux.timeOffsets/, /^fork/);
    expect(program.filter((line) => /timeOffsets.*\(may\)|\(may\).*timeOffsets/.test(line))).toEqual([]);
  });

  // EPERM: only in that namespace may it make others.
  test('joins a user namespace given by path before it makes a mount namespace', () => {
    const config = minimal({ linux: { namespaces: [{ type: 'user', path: '/ns' }, { type: 'mount' }] } });
    expectOrder(text(requestFor(config, { privileged: false })), /^setns fd:ns-user/, /^unshare CLONE_NEWNS$/);
  });
});

describe('namespaces', () => {
  test('without a new one of the kind, nothing of it is made', () => {
    const program = text(requestFor(minimal()));
    expect(program.filter((line) => line.startsWith('unshare'))).toEqual([
      'unshare CLONE_NEWNS',
      'unshare CLONE_NEWPID',
    ]);
    expect(program.join('\n')).not.toMatch(/setresuid 0 0 0\n(.*\n)*mount none/);
  });

  test('given by path are joined before the mount namespace is made', () => {
    const program = text(requestFor(dockerLike()));
    expectOrder(program, /^setns fd:ns-network CLONE_NEWNET/, /^unshare CLONE_NEWNS$/);
    expect(program.filter((line) => line.startsWith('setns'))).toHaveLength(1);
  });

  test('that belong to a joined user namespace wait for it; others come before', () => {
    const config = minimal({
      linux: {
        namespaces: [
          { type: 'mount' },
          { type: 'user', path: '/u' },
          { type: 'network', path: '/n' },
          { type: 'ipc', path: '/i' },
        ],
      },
    });
    const program = text(requestFor(config, { ownedNamespaces: new Set(['network'] as const) }));
    expectOrder(
      program,
      /^setns fd:ns-ipc/,
      /^mount \/bundle/,
      /^setns fd:ns-user/,
      /^setns fd:ns-network/,
      /^fork/,
      /^setgroups 0/,
    );
  });

  // mount(2) needs CAP_SYS_ADMIN in the owner of the mount namespace, which is the host's here.
  test('a mount namespace beside a joined user namespace belongs to that one', () => {
    const config = minimal({ linux: { namespaces: [{ type: 'mount' }, { type: 'user', path: '/u' }] } });
    const program = text(requestFor(config));
    const joined = index(program, /^setns fd:ns-user/);
    expect(index(program.slice(joined), /^unshare .*CLONE_NEWNS/)).toBeLessThan(index(program.slice(joined), /^fork/));
  });
});

describe('propagation of the root', () => {
  const withPropagation = (rootfsPropagation: 'shared' | 'slave' | 'private' | 'unbindable' | undefined) => {
    const { linux } = minimal();
    return text(
      requestFor(minimal({ linux: { ...linux, ...(rootfsPropagation === undefined ? {} : { rootfsPropagation }) } }), {
        rootfsMount: '/bundle',
      }),
    );
  };

  test.each([
    [undefined, 'MS_SLAVE', undefined],
    ['slave', 'MS_SLAVE', 'MS_SLAVE'],
    ['private', 'MS_PRIVATE', 'MS_PRIVATE'],
    ['shared', 'MS_SHARED', 'MS_SHARED'],
  ] as const)('%s: %s of all at first, then %s of its own root', (value, first, then) => {
    const program = withPropagation(value);
    expect(program).toContain(`mount none / '' MS_REC|${first} 0`);
    const last = program.filter((line) => /^mount none \/ '' MS_[A-Z]+ 0$/.test(line));
    expect(last).toEqual(then === undefined ? [] : [`mount none / '' ${then} 0`]);
  });

  test('shared: but the mount that the root lies on, or pivot_root would not do it', () => {
    expectOrder(
      withPropagation('shared'),
      /MS_REC\|MS_SHARED/,
      /^mount none \/bundle '' MS_PRIVATE/,
      /^mount \/bundle\/rootfs/,
    );
    expect(withPropagation('slave').join('\n')).not.toContain('MS_PRIVATE');
  });

  // What is unbindable cannot be bound: not the root file system, and no bind of the configuration (EINVAL).
  test('unbindable: only when all that has to be bound is bound', () => {
    expectOrder(withPropagation('unbindable'), /^mount \/bundle\/rootfs/, /MS_UNBINDABLE/);
  });
});

describe('without pivot_root', () => {
  // As runc: what cannot be unmounted (it is locked in a user namespace) is covered by an empty tmpfs.
  test('no proc or sysfs of the host stays in reach', () => {
    const program = text(requestFor(minimal(), { noPivot: true, hostKernelMounts: ['/proc'] }));
    const gone = index(program, /umount2 \/proc 2/);
    expect(program.slice(gone, gone + 3).join('\n')).toMatch(/else\n +mount tmpfs \/proc tmpfs/);
  });

  test('the root is moved over the old one and entered by chroot', () => {
    const program = text(requestFor(minimal(), { noPivot: true }));
    expect(program.join('\n')).not.toContain('pivot_root');
    const moved = index(program, /^mount \. \/ '' /);
    expect(program.slice(moved + 1, moved + 3)).toEqual(['chroot .', 'chdir /']);
    expectOrder(program, /^report mounted/, /^mount \. \/ /, /^openat2 .*# working directory/);
  });
});

describe('what has to wait', () => {
  test('for its devices and mounts: a read-only tmpfs', () => {
    const mounts = [
      { destination: '/dev', type: 'tmpfs', options: ['ro'] },
      { destination: '/dev/shm', type: 'tmpfs' },
    ];
    expectOrder(
      text(requestFor(minimal({ mounts }))),
      /# mounts\[1\]: tmpfs/,
      /# device \/dev\/tty/,
      /# mounts\[0\]: read-only/,
      /^pivot_root/,
    );
  });

  // The caller copies while it is told `mounted`: EROFS.
  test('for what is copied up, and for the files that are written: a read-only tmpfs', () => {
    const mounts = [{ destination: '/etc', type: 'tmpfs', options: ['ro', 'tmpcopyup'] }];
    const program = text(requestFor(minimal({ mounts }), { files: { '/etc/hosts': 'x' } }));
    expectOrder(program, /# \/etc\/hosts$/, /^report mounted/, /# mounts\[0\]: read-only/, /^pivot_root/);
  });

  test('for what is told to its caller: nobody can look into it when it has got its orders', () => {
    expectOrder(text(requestFor(minimal())), /^report mounted/, /^prctl 4 0 0 0 0/, /^pivot_root/, /^report ready/);
  });
});

describe('what else a configuration asks for', () => {
  test('sysctls go through a proc file system that is nowhere mounted, after the runtime is done', () => {
    const program = text(
      requestFor(
        minimal({ linux: { ...minimal().linux, sysctl: { 'net.core.somaxconn': '64', 'kernel/shmmax': '9' } } }),
      ),
    );
    expectOrder(
      program,
      /^report mounted/,
      /^fsopen proc 1/,
      /^if possible: fsconfig fd:file 6/,
      /^ {2}if possible: fsmount/,
      // A user namespace cannot mount the PID namespace of the host.
      /^ {2}openat2 -100 \/proc/,
      /^openat2 fd:tree sys\/net\/core\/somaxconn/,
      /^write fd:file 64 2/,
      /^write fd:file 9 1/,
      /^pivot_root/,
    );
    expect(program.some((line) => line.includes('somaxconn') && line.includes('(may)'))).toBe(false);
  });

  test('host and domain name, personality', () => {
    const program = text(
      requestFor(
        minimal({
          hostname: 'hé',
          domainname: 'x.y',
          linux: { ...minimal().linux, personality: { domain: 'LINUX32' } },
        }),
      ),
    );
    const at = index(program, /^sethostname hé 3/);
    expect(program.slice(at + 1, at + 3)).toEqual(['setdomainname x.y 3', 'personality 8']);
  });

  test('its file mode mask comes last, so that what is made for it does not depend on it', () => {
    const config = minimal({ process: { args: ['x'], cwd: '/', user: { uid: 0, gid: 0, umask: 0o77 } } });
    expectOrder(text(requestFor(config)), /^report mounted/, /^umask 63/, /^report ready/);
  });

  // The caller's mask, 077 perhaps, would be that of /etc/resolv.conf and of every folder made.
  test('what is made for it does not depend on the mask of the caller', () => {
    expectOrder(text(requestFor(minimal())), /^umask /, /^unshare/);
  });

  // As runc: the folder is made where the image has none.
  test('a working directory that is not there is made', () => {
    const config = minimal({ process: { args: ['/bin/true'], cwd: '/new/place' } });
    expect(text(requestFor(config)).join('\n')).toContain('mkdirat fd:dir place 493');
  });

  test('without a process it can be created, and waits', () => {
    const { process: _, ...config } = minimal();
    const program = text(requestFor(config, { gate: 'fifo' }));
    expect(program).toContain('report ready');
    expect(program.some((line) => line.includes('faccessat'))).toBe(false);
  });

  test('descriptors are kept from 3 on', () => {
    const program = text(requestFor(minimal(), { preserved: 2 }));
    expectOrder(program, /^dup3 fd:preserved0 3 0$/, /^dup3 fd:preserved1 4 0$/, /^execve/);
  });

  test('the process owns its pipes; where that is not possible it goes on', () => {
    const config = minimal({ process: { args: ['x'], cwd: '/', user: { uid: 1000, gid: 7 } } });
    const program = text(requestFor(config, { ownStdio: ['stdout'] }));
    expect(program.filter((line) => line.startsWith('fchown'))).toEqual(['fchown fd:stdout 1000 -1 (may)']);
    expectOrder(program, /^fchown/, /^setresuid 1000/);
  });

  test('a start by another process is told over the FIFOs, and by nothing before', () => {
    const program = text(requestFor(minimal(), { gate: 'fifo' }));
    const ready = index(program, /^report ready/);
    expect(program.slice(ready + 1, ready + 4)).toEqual([
      'dup3 fd:result fd:status 524288',
      'close fd:result',
      'read fd:start <8 bytes> 1 (positive)',
    ]);
  });

  test('cgroup v1 is a small tmpfs with one folder for each hierarchy', () => {
    const config = minimal({ mounts: [{ destination: '/sys/fs/cgroup', type: 'cgroup', options: ['ro', 'nosuid'] }] });
    const program = text(requestFor(config, { host: { cgroup: cgroup1 } }));
    expect(program.filter((line) => line.startsWith('mount /sys/fs/cgroup'))).toHaveLength(2);
    expect(program.filter((line) => line.includes('MS_RDONLY|MS_NOSUID|MS_REMOUNT|MS_BIND'))).toHaveLength(2);
  });
});
