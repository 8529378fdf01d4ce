import { describe, expect, test } from 'vitest';
import type { Cgroup } from '../../../src/cgroup/index.ts';
import { isBind, lateReadonly, makeReadonly, mask, mountAll, openBinds } from '../../../src/oci/mounts.ts';
import { RESOLVE } from '../../../src/sys/flags.ts';
import { calls, cgroup1, cgroup2, expectOrder, here, lines, plan, thisFile } from './program-requests.ts';

const bind = (...options: string[]) => [{ destination: '/x', type: 'bind', source: here, options }];
const opened = (...options: string[]) => lines(openBinds(plan(bind(...options))));

test('what is mounted at / is entered, so that all else goes into it', () => {
  const bound = lines(mountAll(plan([{ destination: '/', type: 'bind', source: here }]), true));
  expectOrder(bound, /^move_mount fd:bind0/, /^fchdir fd:bind0/, /^close fd:bind0/);
  const mounted = lines(mountAll(plan([{ destination: '/', type: 'tmpfs', source: 'tmpfs' }]), true));
  expectOrder(mounted, /^mount tmpfs @dir/, /^openat2 -100 \.\. /, /^fchdir fd:dir/);
});

test('a bind is taken at its turn, unless all of them had to be taken before', () => {
  const mounts = plan([
    { destination: '/a', type: 'tmpfs', source: 'tmpfs' },
    { destination: '/a', type: 'bind', source: thisFile },
  ]);
  expectOrder(lines(mountAll(mounts, false)), /^mount tmpfs/, /^open_tree -100/, /^move_mount fd:bind1/);
  expect(lines(mountAll(mounts, true)).join('\n')).not.toContain('open_tree -100');
});

describe('a bind', () => {
  test('is told by its type or by an option', () => {
    expect(isBind({ destination: '/x', type: 'bind' })).toBe(true);
    expect(isBind({ destination: '/x', type: 'none', options: ['rbind'] })).toBe(true);
    expect(isBind({ destination: '/x', options: ['bind'] })).toBe(true);
    expect(isBind({ destination: '/x', type: 'tmpfs', options: ['ro'] })).toBe(false);
  });

  test('is held as a detached copy: with what is mounted below it only when that is asked for', () => {
    expect(opened('bind')).toEqual([
      'open_tree -100 /here 524289 as what is bound # mounts[0].source: /here',
      'dup3 $what is bound fd:bind0 524288',
      'close $what is bound',
    ]);
    expect(opened('rbind')[0]).toContain(` ${524289 + 0x8000} `);
  });

  test('of a mount that is given is restricted and attached like any other', () => {
    const [mount] = plan([{ destination: '/x', type: 'bind', source: '/no/such.img', options: ['bind', 'nodev'] }], {
      given: new Set(['/no/such.img']),
      idmap: () => 'map',
    });
    const mounts = mount === undefined ? [] : [mount];
    expect(lines(openBinds(mounts)).map((line) => line.replace(/ #.*/, ''))).toEqual([
      "mount_setattr fd:bind0 '' 4096 {4 0 0 0} 32",
      "mount_setattr fd:bind0 '' 36864 {1048576 0 0 fd:map} 32",
    ]);
    expectOrder(lines(mountAll(mounts, true)), /^mkdirat fd:dir x/, /^move_mount fd:bind0/, /^close fd:bind0/);
  });

  test('is restricted before it is attached: alone, or with all below it', () => {
    expect(opened('rbind', 'ro', 'nosuid')[3]).toBe("mount_setattr fd:bind0 '' 4096 {3 0 0 0} 32");
    expect(opened('rbind', 'rro')[3]).toBe("mount_setattr fd:bind0 '' 36864 {1 0 0 0} 32");
    expect(opened('rbind', 'noatime')[3]).toBe("mount_setattr fd:bind0 '' 4096 {16 112 0 0} 32");
    expect(opened('rbind', 'dev', 'rnodev')).toHaveLength(5);
  });

  test('has its ids mapped after that, alone or with all below it', () => {
    const steps = (option: string) => lines(openBinds(plan(bind('rbind', option, 'ro'), { idmap: () => 'idmap0' })));
    expect(steps('idmap').slice(3)).toEqual([
      "mount_setattr fd:bind0 '' 4096 {1 0 0 0} 32",
      "mount_setattr fd:bind0 '' 4096 {1048576 0 0 fd:idmap0} 32 # mounts[0]: the file system of /here has no idmapped mounts",
    ]);
    expect(steps('ridmap')[4]).toMatch(/^mount_setattr fd:bind0 '' 36864 \{1048576 /);
  });

  test('is attached to a descriptor, let go of, and then given its propagation', () => {
    const text = lines(mountAll(plan(bind('rbind', 'rshared', 'unbindable')), true));
    const attached = text.findIndex((line) => line.startsWith('move_mount'));
    expect(text.slice(attached, attached + 2)).toEqual([
      "move_mount fd:bind0 '' fd:dir '' 68 # mounts[0]: bind at /x",
      'close fd:bind0',
    ]);
    expect(text.filter((line) => line.includes('# propagation'))).toEqual([
      "mount none @dir '' MS_REC|MS_SHARED 0 # propagation of /x",
      "mount none @dir '' MS_UNBINDABLE 0 # propagation of /x",
    ]);
  });

  test('of a folder finds a folder, of a file finds a file', () => {
    expect(lines(mountAll(plan(bind('bind')), true)).join('\n')).toContain('mkdirat fd:dir x 493 (may)');
    const file = lines(mountAll(plan([{ destination: '/d/x', type: 'bind', source: thisFile }]), true)).join('\n');
    expect(file).toContain('mkdirat fd:dir d 493 (may)');
    expect(file).not.toContain('mkdirat fd:dir x');
    expect(file).toMatch(/if \w+: openat2 (fd:dir x|-100 d\/x) /);
  });
});

describe('a new file system', () => {
  const one = (type: string, destination: string, ...options: string[]) =>
    lines(mountAll(plan([{ destination, type, source: 'src', options }]), true)).filter((line) =>
      line.startsWith('mount'),
    );

  test('is mounted on the descriptor of its folder, with flags and data', () => {
    expect(one('tmpfs', '/t', 'nosuid', 'mode=755', 'size=1k')).toEqual([
      'mount src @dir tmpfs MS_NOSUID mode=755,size=1k # mounts[0]: tmpfs at /t',
    ]);
    expect(one('mqueue', '/q')).toEqual(['mount src @dir mqueue 0 0 # mounts[0]: mqueue at /q']);
  });

  test.each([
    ['proc', '/proc', true],
    ['sysfs', '/sys', true],
    ['proc', '/other', true],
    ['tmpfs', '/dev', true],
    ['tmpfs', '/dev/', true],
    ['tmpfs', '/dev/shm', false],
    ['tmpfs', '/var/run', false],
  ])('S7 S8 %s at %s is on a plain folder, behind no link: %s', (type, destination, plain) => {
    const last = calls(mountAll(plan([{ destination, type, source: 'x' }]), true)).findLast(
      ({ call }) => call === 'openat2',
    );
    const how = last?.args[2];
    const resolve = typeof how === 'object' && 'bytes' in how ? Number(Buffer.from(how.bytes).readBigUInt64LE(16)) : 0;
    expect(resolve & RESOLVE.NO_MAGICLINKS).not.toBe(0);
    expect((resolve & RESOLVE.NO_SYMLINKS) !== 0).toBe(plain);
    expect((resolve & RESOLVE.IN_ROOT) !== 0).toBe(!plain);
  });

  // As runc: with `ro` at once, nothing could be made in it - no device, no mount point.
  test('a tmpfs that is to be read-only is so when everything in it is there', () => {
    const text = lines(
      mountAll(
        plan([
          { destination: '/t', type: 'tmpfs', options: ['ro'] },
          { destination: '/t/u', type: 'tmpfs' },
        ]),
        true,
      ),
    );
    expect(text.find((line) => line.includes('# mounts[0]: tmpfs at /t'))).not.toContain('MS_RDONLY');
  });

  test('a /dev that is to be read-only is so when its devices are in it', () => {
    const mounts = plan([{ destination: '/dev', type: 'tmpfs', options: ['ro'] }]);
    expect(lines(mountAll(mounts, true)).join('\n')).not.toContain('MS_RDONLY');
    expect(lines(lateReadonly(mounts)).at(-1)).toBe("mount_setattr fd:dir '' 4096 {1 0 0 0} 32 # mounts[0]: read-only");
    expect(lateReadonly(plan([{ destination: '/dev', type: 'tmpfs' }]))).toEqual([]);
  });

  test('that is there already is restricted with all that is mounted below it', () => {
    const text = lines(mountAll(plan([{ destination: '/t', type: 'none', options: ['remount', 'rnoexec'] }]), true));
    expect(text.at(-1)).toBe("mount_setattr fd:dir '' 36864 {8 0 0 0} 32 # mounts[0].options: recursive ones of /t");
  });

  test('a remount changes what is there', () => {
    expect(one('none', '/t', 'remount', 'ro', 'bind')).toEqual([
      "mount none @dir '' MS_RDONLY|MS_REMOUNT|MS_BIND 0 # mounts[0]: remount /t",
    ]);
  });
});

describe('cgroups', () => {
  const mount = [{ destination: '/sys/fs/cgroup', type: 'cgroup', options: ['ro', 'nosuid'] }];

  test('of version 2 with a namespace of its own are mounted', () => {
    const text = lines(mountAll(plan(mount, { cgroup: cgroup2 }), true));
    // Not with mount(2), which puts no file system over itself: the host's /sys may be bound there.
    expect(text.filter((line) => /^(?:fs|move_mount)/.test(line))).toEqual([
      'fsopen cgroup2 1 as cgroup2 # mounts[0]: cgroup2 at /sys/fs/cgroup',
      'fsconfig fd:file 1 source cgroup 0 # mounts[0]: cgroup2 at /sys/fs/cgroup',
      'fsconfig fd:file 6 0 0 0 # mounts[0]: cgroup2 at /sys/fs/cgroup',
      'fsmount fd:file 1 3 as mounted cgroup2 # mounts[0]: cgroup2 at /sys/fs/cgroup',
      "move_mount fd:tree '' fd:dir '' 68 # mounts[0]: cgroup2 at /sys/fs/cgroup",
    ]);
  });

  test('of version 2 are shown to who may make none, from its own on, where nothing else is mounted there', () => {
    const none: Cgroup = { members: [], explicit: false };
    expect(plan(mount, { cgroup: { ...none, mode: 'v2' } })).toMatchObject([{ kind: 'filesystem', type: 'cgroup2' }]);
    expect(plan(mount, { cgroup: { ...none, mode: 'v2' }, ownCgroupNamespace: false })).toEqual([]);
    expect(plan(mount, { cgroup: { ...none, mode: 'hybrid' } })).toEqual([]);
  });

  test('of version 2 in the namespace of the host are the own folder, bound with the same options', () => {
    const planned = plan(mount, { cgroup: cgroup2, ownCgroupNamespace: false });
    expect(planned).toMatchObject([{ kind: 'bind', source: here, folder: true }]);
    expect(lines(openBinds(planned))).toContain("mount_setattr fd:bind0 '' 4096 {3 0 0 0} 32");
  });

  test('of version 1 are one folder for each hierarchy; the tmpfs around them is closed last', () => {
    const text = lines(mountAll(plan(mount, { cgroup: cgroup1 }), true));
    expect(text.filter((line) => line.startsWith('mount'))).toEqual([
      'mount tmpfs @dir tmpfs MS_NOSUID mode=755 # mounts[0]: tmpfs at /sys/fs/cgroup',
      'mount cgroup @dir cgroup MS_RDONLY|MS_NOSUID cpu,cpuacct # mounts[0]: /sys/fs/cgroup/cpu,cpuacct',
      'mount cgroup @dir cgroup MS_RDONLY|MS_NOSUID none,name=systemd # mounts[0]: /sys/fs/cgroup/systemd',
      "mount_setattr fd:dir '' 4096 {1 0 0 0} 32",
    ]);
    expect(text.filter((line) => line.startsWith('symlinkat'))).toEqual([
      'symlinkat cpu,cpuacct fd:dir cpu (may)',
      'symlinkat cpu,cpuacct fd:dir cpuacct (may)',
    ]);
  });

  test('of version 1 in the namespace of the host are the own folders, bound read-only', () => {
    const text = lines(mountAll(plan(mount, { cgroup: cgroup1, ownCgroupNamespace: false }), true));
    expectOrder(
      text,
      /^mount \/sys\/fs\/cgroup\/cpu,cpuacct\/c @dir '' MS_BIND\|MS_REC/,
      /^mount '' @dir '' .*MS_RDONLY.*MS_REMOUNT\|MS_BIND/,
      /^mount_setattr/,
    );
    expect(text.filter((line) => /MS_REMOUNT/.test(line))).toHaveLength(2);
  });

  test('that the caller has none of are not shown', () => {
    expect(plan(mount, { cgroup: { explicit: false, members: [] } })).toEqual([]);
  });
});

describe('protected paths', () => {
  test('S5 what is masked is covered by the device of the host, or by an empty folder, and only absence is passed over', () => {
    expect(lines([mask('/proc/kcore')])).toEqual([
      'if present: openat2 -100 proc/kcore <24 bytes> 24 as what was opened for dir # /proc/kcore',
      '  dup3 $what was opened for dir fd:dir 524288',
      '  close $what was opened for dir',
      "  if present: mount /dev/null @dir '' MS_BIND 0 # hide /proc/kcore",
      '  else',
      '    mount tmpfs @dir tmpfs MS_RDONLY|MS_NOSUID|MS_NODEV|MS_NOEXEC size=0,nr_inodes=2 # hide /proc/kcore',
    ]);
  });

  test('S17 what is read-only is so with everything below it, before it is put in its place', () => {
    expectOrder(
      lines([makeReadonly('/proc/sys')]),
      /^if present: openat2 -100 proc\/sys /,
      /^ {2}open_tree fd:dir '' 561153 /,
      /^ {2}mount_setattr fd:tree '' 36864 \{1 0 0 0\}/,
      /^ {2}move_mount fd:tree '' fd:dir '' 68$/,
    );
    expect(lines([makeReadonly('/a')]).join('\n')).not.toContain('(may)');
  });
});
