import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Draft, ociHost, useRootfs } from '../../support/bundle.ts';
import { rootTest } from '../../support/root.ts';

/* The runtime, attacked by what an image has in the places that it uses. The numbers are those of the security checklist. */

useRootfs();

const nodes = rootTest('a user can make no device nodes');

const without =
  (...places: readonly string[]) =>
  (config: Draft): void => {
    config.mounts = config.mounts.filter(({ destination }) => !places.includes(destination));
  };

describe('S3 S4 a working directory that is a descriptor of the runtime', () => {
  test('S3 S4 is refused by run and exec, though the caller hands on the root of the host', async () => {
    const host = ociHost();
    const withRoot = (args: readonly string[]) =>
      host.spawn(['sh', '-c', 'exec 3</ "$@"', 'sh', ...host.argv(args)], { input: '' }).result;
    const running = host.container('sleep 1000', (_, { rootfs }) =>
      symlinkSync('/proc/self/fd/3', join(rootfs, 'way')),
    );
    await running.ok('run --detach');
    for (const cwd of ['/proc/self/fd/3', '/dev/fd/3', '/proc/1/cwd', '/way']) {
      const { code, stdout } = await withRoot(running.args(`exec --preserve-fds 1 --cwd ${cwd}`, ['ls']));
      expect([cwd, code, stdout]).toEqual([cwd, 126, '']);
      const box = host.container('ls', (config, { rootfs }) => {
        symlinkSync('/proc/self/fd/3', join(rootfs, 'way'));
        config.process.cwd = cwd;
      });
      const created = await withRoot(box.args('run --preserve-fds 1'));
      expect([cwd, created.code, created.stdout]).toEqual([cwd, 126, '']);
    }
  });
});

describe('S5 S6 S7 S8 an image with links', () => {
  const settings = '/proc/sys/kernel/core_pattern';

  nodes('S5 a mask is the device of the host, whatever /dev/null the image has', async () => {
    const pattern = readFileSync(settings, 'utf8');
    const host = ociHost();
    const outside = join(host.dir, 'outside');
    writeFileSync(outside, 'mine');
    for (const target of [settings, outside, `../../../../../../../..${outside}`]) {
      const box = host.container(
        'stat -c %t:%T /proc/timer_list /etc/secret; cat /etc/secret; echo evil >/dev/null',
        (config, { rootfs }) => {
          without('/dev', '/dev/pts')(config);
          symlinkSync(target, join(rootfs, 'dev/null'));
          config.linux.maskedPaths = ['/proc/timer_list', '/etc/secret'];
          config.linux.readonlyPaths = ['/proc/sys']; // root of a container without a user namespace may write there
        },
      );
      box.file('etc/secret', 'secret');
      expect((await box.call('run')).stdout).toBe('1:3\n1:3\n');
      expect([readFileSync(settings, 'utf8'), readFileSync(outside, 'utf8')]).toEqual([pattern, 'mine']);
    }
  });

  test('S6 the terminal is put in the place of no link: /dev/console, /dev/pts, /dev/pts/ptmx', async () => {
    const pattern = readFileSync(settings, 'utf8');
    const host = ociHost();
    const outside = join(host.dir, 'outside');
    mkdirSync(outside);
    writeFileSync(join(outside, 'ptmx'), 'mine');
    const attacks: readonly ((rootfs: string, config: Draft) => void)[] = [
      (rootfs) => symlinkSync(settings, join(rootfs, 'dev/console')),
      (rootfs) => symlinkSync(join(outside, 'ptmx'), join(rootfs, 'dev/console')),
      (rootfs, config) => {
        without('/dev/pts')(config);
        symlinkSync(outside, join(rootfs, 'dev/pts'));
      },
      (rootfs, config) => {
        without('/dev/pts')(config);
        mkdirSync(join(rootfs, 'dev/pts'));
        symlinkSync('/dev/ptmx', join(rootfs, 'dev/pts/ptmx'));
      },
    ];
    for (const [index, attack] of attacks.entries()) {
      const box = host.container('tty', (config, { rootfs }) => {
        without('/dev')(config);
        config.process.terminal = true;
        attack(rootfs, config);
      });
      const { code, stdout } = await host.startOnTerminal(box.args('run')).result;
      expect([index, code, stdout], stdout).toEqual([index, 1, expect.stringMatching(/ELOOP|EXDEV|ENOENT|ENOTTY/)]);
      expect(readFileSync(settings, 'utf8')).toBe(pattern);
      expect([readdirSync(outside), readFileSync(join(outside, 'ptmx'), 'utf8')]).toEqual([['ptmx'], 'mine']);
    }
  });

  test.each(['proc', 'sys', 'dev'])(
    'S7 S8 in the place of /%s is refused, and nothing is made behind it',
    async (place) => {
      const host = ociHost();
      const outside = join(host.dir, 'outside');
      mkdirSync(outside, { mode: 0o777 });
      for (const target of [outside, 'etc', `../../../../../../../..${outside}`]) {
        const box = host.container('true', (config, { rootfs }) => {
          if (place === 'sys') config.mounts.push({ destination: '/sys', type: 'sysfs', source: 'sysfs' });
          rmSync(join(rootfs, place), { recursive: true });
          symlinkSync(target, join(rootfs, place));
        });
        const { code, stderr } = await box.call('run');
        expect([target, code]).toEqual([target, 1]);
        expect(stderr).toContain(`/${place} must be a folder, not a symbolic link`);
        expect(readdirSync(outside)).toEqual([]);
        expect(readdirSync(join(box.rootfs, 'etc')).sort()).toEqual(['group', 'passwd']);
      }
    },
  );
});

describe('S11 S18 nodes and links that the runtime makes', () => {
  nodes(
    'S11 are changed by descriptor: a link put in the place of a new node changes nothing of the host',
    async () => {
      const host = ociHost();
      const volume = join(host.dir, 'volume');
      const outside = join(host.dir, 'outside');
      mkdirSync(volume);
      writeFileSync(outside, 'mine', { mode: 0o600 });
      const box = host.container('true', (config) => {
        config.mounts.push({ destination: '/volume', type: 'bind', source: volume, options: ['bind'] });
        config.linux.devices = [{ path: '/volume/node', type: 'p', fileMode: 0o666, uid: 1234, gid: 1234 }];
      });
      // Whenever there is a node, it becomes a link at once.
      const script =
        'my ($n, $t) = @ARGV; $| = 1; symlink $t, "$n.link"; print "ready\\n"; ' +
        'while (1) { if (syscall(316, -100, "$n.link", -100, $n, 2) == 0) { unlink $n; unlink "$n.link"; symlink $t, "$n.link" } }';
      const swapping = host.spawn(['perl', '-e', script, join(volume, 'node'), outside]);
      await swapping.prints(/ready/);
      for (let round = 0; round < 25; round++) await box.call('run');
      swapping.signal('SIGKILL');
      await swapping.result;
      const { mode, uid } = statSync(outside);
      expect([mode & 0o777, uid]).toEqual([0o600, 0]);
    },
  );

  nodes('S11 of cgroup v1 are made inside, whatever link the image has on the way', async (context) => {
    if (!existsSync('/sys/fs/cgroup/cpu,cpuacct'))
      context.skip('no two controllers of this host share a hierarchy of cgroup v1');
    const host = ociHost();
    const outside = join(host.dir, 'outside');
    mkdirSync(join(outside, 'cgroup'), { recursive: true });
    const box = host.container('ls /fs/cgroup', (config, { rootfs }) => {
      symlinkSync(outside, join(rootfs, 'fs'));
      config.mounts.push({ destination: '/fs/cgroup', type: 'cgroup', source: 'cgroup', options: ['ro'] });
    });
    expect(await box.ok('run')).toMatch(/^cpu$/m);
    expect(readdirSync(join(outside, 'cgroup'))).toEqual([]);
  });

  nodes('S18 no device is opened that a container put in the place of a file', async () => {
    const host = ociHost();
    const box = host.container('sleep 1000');
    await box.ok('run --detach');
    rmSync(join(box.rootfs, 'etc/passwd'));
    // A FIFO in the place of a device that acts when it is opened: whoever opens it to read, however shortly, lets the
    // writer through (fifo(7)).
    const fifo = join(box.rootfs, 'etc/passwd');
    await host.spawn(['mkfifo', fifo]).result;
    const script = '$| = 1; print "ready\\n"; open(F, ">", $ARGV[0]) and print "opened\\n"; sleep 1000';
    const writer = host.spawn(['perl', '-e', script, fifo]);
    await writer.prints(/ready/);
    // A process without HOME: it is looked for there.
    const file = join(box.bundle, 'process.json');
    writeFileSync(file, JSON.stringify({ args: ['env'], env: ['PATH=/bin'], cwd: '/' }));
    for (let round = 0; round < 3; round++) expect(await box.ok(`exec --process ${file}`)).toContain('HOME=/\n');
    writer.signal('SIGKILL');
    expect((await writer.result).stdout).toBe('ready\n');
  });
});

describe('S18 devices', () => {
  nodes('S18 a container that may make any node opens none that is not listed', async (context) => {
    // /dev/net/tun stands for a disk: no container has it by itself, and to open it changes nothing.
    const script =
      'mknod /tmp/node c 10 200; echo made $?; true </tmp/node; echo $?; true 1<>/tmp/node; echo $?; cat /dev/null; echo $?';
    if (!existsSync('/dev/net/tun')) context.skip('this host has no /dev/net/tun');
    const box = (access?: string) =>
      ociHost().container(script, (config) => {
        for (const set of ['bounding', 'effective', 'permitted'] as const)
          config.process.capabilities?.[set]?.push('CAP_MKNOD', 'CAP_SYS_ADMIN', 'CAP_DAC_OVERRIDE');
        config.linux.resources = {
          devices: [
            { allow: false, access: 'rwm' },
            { allow: true, type: 'c', major: 1, minor: 3, access: 'rwm' },
            ...(access === undefined ? [] : [{ allow: true, type: 'c' as const, major: 10, minor: 200, access }]),
          ],
        };
      });
    const refused = async (access?: string) => {
      const { stdout, stderr } = await box(access).call('run');
      return [stdout.trim().split('\n').join(' '), stderr.match(/Operation not permitted/g)?.length ?? 0];
    };
    expect(await refused('rwm')).toEqual(['made 0 0 0 0', 0]);
    expect(await refused('rm')).toEqual(['made 0 0 1 0', 1]);
    // To make a node is no more than a name for it: every container may, as in runc's.
    expect(await refused()).toEqual(['made 0 1 1 0', 2]);
  });
});

describe('S23 annotations', () => {
  test('S23 of the engines that know some change nothing of what a container may', async () => {
    const host = ociHost();
    const script =
      'grep -E "^(Cap|NoNewPrivs|Seccomp|Uid|Gid|Groups)" /proc/self/status; cut -d" " -f5- /proc/self/mountinfo | ' +
      'sed "s/ [0-9:]* / /; s/ocitest-[^ ]*//g"; for n in pid net mnt user uts ipc cgroup; do ' +
      'readlink /proc/self/ns/$n >/dev/null && echo $n; done; cat /proc/self/uid_map; ls /dev; env | grep -v OCI_TEST';
    const marked = 'tsv';
    const look = async (annotations?: Record<string, string>) => {
      const box = host.container(script.replace('sed "', 'busybox sed "').replace('cut ', 'busybox cut '), (config) => {
        if (annotations !== undefined) config.annotations = annotations;
        config.linux.seccomp = { defaultAction: 'SCMP_ACT_ALLOW', architectures: ['SCMP_ARCH_X86_64'] };
        config.linux.maskedPaths = ['/proc/kcore'];
        config.linux.readonlyPaths = ['/proc/sys'];
      });
      return (await box.ok('run')).replaceAll(/\/tmp\/\S+/g, '/tmp/…');
    };
    const plain = await look();
    expect(plain).toContain('NoNewPrivs:\t1');
    const every = [
      ...['io.podman.annotations.privileged', 'io.podman.annotations.seccomp', 'io.podman.annotations.userns'],
      ...['io.podman.annotations.label', 'io.podman.annotations.init', 'io.kubernetes.cri-o.userns-mode'],
      ...['io.kubernetes.cri-o.Devices', 'io.kubernetes.cri-o.ShmSize', 'io.kubernetes.cri-o.UnifiedCgroup'],
      ...['run.oci.handler', 'run.oci.keep_original_groups', 'run.oci.seccomp.receiver', 'run.oci.seccomp_bpf_data'],
      ...['run.oci.pidfd_receiver', 'run.oci.systemd.subgroup', 'run.oci.mount_context_type', 'run.oci.hooks.stdout'],
      ...[
        'org.systemd.property.DeviceAllow',
        'seccomp.security.alpha.kubernetes.io/pod',
        'io.containers.trace-syscall',
      ],
      ...['container.apparmor.security.beta.kubernetes.io/box', `${marked}.privileged`, `${marked}.seccomp`],
    ];
    for (const value of ['true', 'unconfined', join(host.dir, 'written')])
      expect(await look(Object.fromEntries(every.map((name) => [name, value]))), value).toBe(plain);
    expect(existsSync(join(host.dir, 'written'))).toBe(false);
  });
});
