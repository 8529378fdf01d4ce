import { createHash, randomBytes } from 'node:crypto';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { setTimeout as pause } from 'node:timers/promises';
import { describe, expect, onTestFinished } from 'vitest';
import { usualCapabilities } from '../../providers/namespace/config.ts';
import type { TsvError } from '../../src/model/errors.ts';
import { isolationOf } from '../../src/model/project.ts';
import { execInContainer } from '../../src/oci/exec.ts';
import { capabilityMask } from '../../src/sys/capabilities.ts';
import { waitExit } from '../../src/sys/children.ts';
import { isAlive } from '../../src/sys/process.ts';
import { type Container, containerTests, skip } from '../support/containers.ts';
import { listProcesses } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

/* Real containers, attacked from inside. Names may begin with the number of a line of the security checklist. */

const { test, lab } = containerTests(import.meta.filename);

const failure = async (work: Promise<unknown>): Promise<TsvError> =>
  work.then(
    () => expect.fail('it succeeded'),
    (error: TsvError) => error,
  );
const status = (text: string, field: string): string => new RegExp(`^${field}:\\s*(.*)$`, 'm').exec(text)?.[1] ?? '';

/** One Debian container for all tests that leave it as it was. */
let shared: Container | undefined;
const debian = async (): Promise<Container> => {
  shared ??= await lab().started({ machine: { name: 'shared', pids: 2000, memoryBytes: 512 << 20 }, networked: true });
  return shared;
};

/** A container for one test. */
const temporary = async (options: Parameters<ReturnType<typeof lab>['container']>[0] = {}): Promise<Container> => {
  const container = await lab().started(options);
  onTestFinished(() => container.destroy());
  return container;
};

describe('S2 descriptors', () => {
  test('S2 a command has 0, 1 and 2, though its caller has 20 more open', async () => {
    const more = Array.from({ length: 20 }, () => openSync('/etc/passwd', 'r'));
    onTestFinished(() => {
      for (const fd of more) closeSync(fd);
    });
    const container = await debian();
    const session = await (await container.transport()).exec({ argv: ['sleep', '1000'] });
    const pid = Number(await container.sh('pgrep -n sleep'));
    expect(await container.sh(`ls /proc/${pid}/fd`)).toBe('0\n1\n2');
    expect(await container.sh('ls /proc/1/fd')).toBe('0\n1\n2');
    session.signal('KILL');
    expect(await session.exited).toEqual({ code: 137, signal: 'KILL' });
  });
});

describe('S3 S4 the working directory', () => {
  test('S3 is no descriptor of the runtime: /proc/self/fd/N is refused', async () => {
    const container = await debian();
    const highest = Math.max(...readdirSync('/proc/self/fd').map(Number));
    // In the child, the descriptors of a program are numbered above all of ours.
    for (let fd = 0; fd <= highest + 40; fd++) {
      const error = await failure(container.exec(['pwd'], { cwd: `/proc/self/fd/${fd}` }));
      expect(error).toMatchObject({ code: 'TSV_COMMAND_NOT_FOUND', exitCode: 126 });
    }
  });

  test('S3 is none that its caller hands on either: the root of the host stays out of reach', async () => {
    const { pid } = await debian();
    const [root, output] = [openSync('/', 'r'), openSync('/dev/null', 'r+')];
    onTestFinished(() => {
      for (const fd of [root, output]) closeSync(fd);
    });
    for (let fd = 3; fd <= Math.max(root, output) + 40; fd++) {
      const process = { args: ['/bin/true'], cwd: `/proc/self/fd/${fd}` };
      const stdio = { stdin: output, stdout: output, stderr: output };
      const options = { name: 'shared', initPid: pid, process, stdio, cgroupFolders: [], preserved: [root] };
      expect(await failure(execInContainer(options))).toMatchObject({ code: 'TSV_COMMAND_NOT_FOUND', exitCode: 126 });
    }
  });

  test('S4 is none through a symbolic link of the container either', async () => {
    const container = await debian();
    for (let fd = 3; fd <= 30; fd++) {
      await container.exec(['ln', '-sfn', `/proc/self/fd/${fd}`, '/tmp/cwd']);
      await failure(container.exec(['pwd'], { cwd: '/tmp/cwd' }));
    }
  });

  test('is the given one, the home of the user otherwise, and always below /', async () => {
    const container = await debian();
    expect((await container.exec(['pwd'], { cwd: '/usr/../etc' })).stdout).toBe('/etc\n');
    expect((await container.exec(['pwd'])).stdout).toBe('/root\n');
    expect((await container.exec(['pwd'], { user: 'tsv' })).stdout).toBe('/home/tsv\n');
    expect(await container.sh('cd /; cd ../../../..; pwd -P')).toBe('/');
  });
});

describe('images that lie', () => {
  for (const place of ['proc', 'sys', 'dev']) {
    test(`S7 S8 an image whose /${place} is a symbolic link is refused, and nothing is made behind it`, async () => {
      const outside = join(lab().folder, `outside-${place}`);
      mkdirSync(outside, { mode: 0o777 });
      for (const target of [outside, '/etc', 'etc', '../../../../../../tmp']) {
        const box = lab().image((rootfs) => symlinkSync(target, join(rootfs, place)));
        const container = lab().container({ box });
        const error = await failure(container.start());
        expect(error).toMatchObject({
          code: 'TSV_CONTAINER_START',
          details: [
            expect.stringMatching(new RegExp(`/${place} must be a folder, not a symbolic link: (ELOOP|ENOTDIR|EXDEV)`)),
            expect.stringContaining('openat2'),
          ],
        });
        expect(readdirSync(outside)).toEqual([]);
        await container.destroy();
      }
    });
  }

  test('S5 an image that brings /dev/null as a link to a setting of the host cannot reach it', async () => {
    const pattern = readFileSync('/proc/sys/kernel/core_pattern', 'utf8');
    const box = lab().image((rootfs) => {
      mkdirSync(join(rootfs, 'dev'));
      symlinkSync('/proc/sys/kernel/core_pattern', join(rootfs, 'dev/null'));
    });
    const container = await temporary({ box });
    expect(await container.sh('echo evil >/dev/null; stat -c %t:%T /dev/null; cat /proc/kcore | head -c 1')).toMatch(
      /^1:3/,
    );
    expect(readFileSync('/proc/sys/kernel/core_pattern', 'utf8')).toBe(pattern);
  });

  test('S11 mount points are made inside, whatever links the image has on the way', async () => {
    const outside = join(lab().folder, 'outside-shares');
    const share = join(lab().folder, 'shared-folder');
    mkdirSync(outside);
    mkdirSync(share);
    writeFileSync(join(share, 'hello'), 'hello');
    const box = lab().image((rootfs) => {
      symlinkSync(outside, join(rootfs, 'absolute'));
      symlinkSync(`../../../../../../../../..${outside}`, join(rootfs, 'relative'));
      symlinkSync('/etc', join(rootfs, 'inside'));
      symlinkSync(join(outside, 'file'), join(rootfs, 'last'));
    });
    for (const guest of ['/absolute/a/b', '/relative/a/b', '/absolute', '/last']) {
      const container = lab().container({ box, machine: { shares: [{ host: share, guest, readonly: true }] } });
      await container.start().catch((error: TsvError) => expect(error.code).toBe('TSV_CONTAINER_START'));
      await container.destroy();
      expect(readdirSync(outside), guest).toEqual([]);
    }
    const container = await temporary({
      box,
      machine: { shares: [{ host: share, guest: '/inside/deep/er', readonly: true }] },
    });
    expect(await container.sh('cat /etc/deep/er/hello')).toBe('hello');
  });

  test('S11 a share of a single file is put behind no link, and over none', async () => {
    const outside = join(lab().folder, 'outside-file');
    writeFileSync(outside, 'mine');
    const file = join(lab().folder, 'one-file');
    writeFileSync(file, 'theirs');
    const box = lab().image((rootfs) => symlinkSync(outside, join(rootfs, 'etc/conf')));
    const container = lab().container({
      box,
      machine: { shares: [{ host: file, guest: '/etc/conf', readonly: true }] },
    });
    await container.start().catch((error: TsvError) => expect(error.code).toBe('TSV_CONTAINER_START'));
    await container.destroy();
    expect(readFileSync(outside, 'utf8')).toBe('mine');
  });

  test('files that the runtime writes replace links of the image, and are not written through them', async () => {
    const outside = join(lab().folder, 'outside-hosts');
    writeFileSync(outside, 'mine');
    const box = lab().image((rootfs) => {
      for (const name of ['hosts', 'hostname', 'resolv.conf']) symlinkSync(outside, join(rootfs, 'etc', name));
      writeFileSync(join(rootfs, 'bin/victim'), 'untouched');
    });
    const container = await temporary({ box, networked: true });
    expect(await container.sh('cat /etc/hostname')).toBe(container.context.machine.hostname);
    expect(await container.sh('ls -l /etc/hosts /etc/resolv.conf | cut -c1')).not.toContain('l');
    expect(readFileSync(outside, 'utf8')).toBe('mine');
  });
});

describe('privileges', () => {
  for (const user of ['root', 'tsv']) {
    test(`S12 S13 a command of ${user} has no new privileges, the bounding set, and nothing that is inherited`, async () => {
      const text = await (await debian()).sh('cat /proc/self/status', { user });
      const mask = capabilityMask(usualCapabilities);
      const own = user === 'root' ? mask : 0n;
      expect(status(text, 'NoNewPrivs')).toBe('1');
      expect(
        ['CapBnd', 'CapPrm', 'CapEff', 'CapInh', 'CapAmb'].map((field) => BigInt(`0x${status(text, field)}`)),
      ).toEqual([mask, own, own, 0n, 0n]);
    });
  }

  test('S12 S13 PID 1 is as restricted as every command', async () => {
    const text = readFileSync(`/proc/${(await debian()).pid}/status`, 'utf8');
    const mask = capabilityMask(usualCapabilities);
    expect(status(text, 'NoNewPrivs')).toBe('1');
    expect(
      ['CapBnd', 'CapPrm', 'CapEff', 'CapInh', 'CapAmb'].map((field) => BigInt(`0x${status(text, field)}`)),
    ).toEqual([mask, mask, mask, 0n, 0n]);
  });

  test('S12 a setuid program keeps the id of its caller', async () => {
    const container = await debian();
    expect(
      await container.sh(
        'cp /usr/bin/id /var/tmp/id && chown root:root /var/tmp/id && chmod 6755 /var/tmp/id && stat -c %a /var/tmp/id',
      ),
    ).toBe('6755');
    expect(await container.sh('/var/tmp/id -u; /var/tmp/id -g', { user: 'tsv' })).toBe('1000\n1000');
  });

  test('S14 there are no raw sockets, no packet sockets, and no IPv6 on its interfaces', async () => {
    const container = await debian();
    for (const [family, type] of [
      [2, 3],
      [17, 3],
      [10, 3],
    ]) {
      expect(await container.sh(`perl -e 'socket(S, ${family}, ${type}, 255) and print "open" or print $!'`)).toBe(
        'Operation not permitted',
      );
    }
    expect(await container.sh('cat /proc/sys/net/ipv6/conf/*/disable_ipv6 2>/dev/null | sort -u || :')).toMatch(/^1?$/);
  });

  test('S15 PID 1 and every command are under the filter', async () => {
    const container = await debian();
    expect(await container.sh('grep Seccomp: /proc/1/status /proc/self/status')).toBe(
      '/proc/1/status:Seccomp:\t2\n/proc/self/status:Seccomp:\t2',
    );
  });

  for (const [call, line] of [
    ['keyctl', 'syscall(250, 0, -3, 0, 0, 0)'],
    ['bpf', 'syscall(321, 0, 0, 0)'],
    ['mount', 'syscall(165, 0, 0, 0, 0, 0)'],
    ['unshare(CLONE_NEWUSER)', 'syscall(272, 0x10000000)'],
    ['clone(CLONE_NEWUSER)', 'syscall(56, 0x10000000 | 17, 0, 0, 0, 0)'],
    ['setns', 'syscall(308, 0, 0)'],
    ['open_by_handle_at', 'syscall(304, -100, 0, 0)'],
    ['kexec_load', 'syscall(246, 0, 0, 0, 0)'],
    ['userfaultfd', 'syscall(323, 0)'],
    ['perf_event_open', 'syscall(298, 0, 0, -1, -1, 0)'],
    ['io_uring_setup', 'syscall(425, 1, 0)'],
    ['socket(AF_ALG)', 'syscall(41, 38, 5, 0)'],
    ['socket(AF_VSOCK)', 'syscall(41, 40, 1, 0)'],
  ] as const) {
    test(`S15 ${call} is not permitted`, async () => {
      const container = await debian();
      const { stdout } = await container.exec(['perl', '-e', `my $r = ${line}; print $r < 0 ? $! + 0 : "done"`]);
      expect(stdout).toBe('1'); // EPERM
    });
  }

  test('S15 is the filter of the machine: without one, calls get as far as the kernel lets them', async () => {
    const machine = { isolation: { ...isolationOf({}), seccomp: 'unconfined' as const } };
    const container = await temporary({ machine });
    expect(await container.sh('grep Seccomp: /proc/self/status')).toBe('Seccomp:\t0');
    const { stdout } = await container.exec([
      'perl',
      '-e',
      'my $r = syscall(250, 0, -3, 0, 0, 0); print $r < 0 ? $! + 0 : "done"',
    ]);
    expect(stdout).toBe('done');
  });

  test('S16 system calls of x32 end the process', async () => {
    const container = await debian();
    // getpid with the bit of x32.
    expect(await container.exec(['perl', '-e', 'syscall(0x40000000 + 39); print "lives"'])).toMatchObject({
      code: 159,
      signal: 'SYS',
      stdout: '',
    });
  });

  test('S18 no device can be made, block or character', async () => {
    const container = await debian();
    for (const kind of ['b 8 0', 'b 7 0', 'c 1 1', 'c 10 200']) {
      expect(await container.sh(`mknod /tmp/device ${kind} 2>&1; ls /tmp/device 2>/dev/null`)).toContain(
        'Operation not permitted',
      );
    }
    expect(await container.sh('find /dev -type b')).toBe('');
    const devices = await container.sh('for f in /dev/* /dev/*/*; do [ -c $f ] && stat -L -c "%n %t:%T" $f; done');
    expect(devices.split('\n').filter((line) => !/^\/dev\/(pts\/\d+|std\w+|fd\/\d+) /.test(line))).toEqual([
      '/dev/full 1:7',
      '/dev/null 1:3',
      '/dev/ptmx 5:2',
      '/dev/random 1:8',
      '/dev/tty 5:0',
      '/dev/urandom 1:9',
      '/dev/zero 1:5',
      '/dev/pts/ptmx 5:2',
    ]);
  });

  test('S19 no file system of the kernel can be mounted, cgroups least of all', async () => {
    const container = await debian();
    for (const type of ['cgroup', 'cgroup2', 'proc', 'sysfs', 'tmpfs', 'debugfs', 'overlay']) {
      expect(
        await container.sh(`mkdir -p /tmp/m; mount -t ${type} none /tmp/m 2>&1 && echo mounted`),
        type,
      ).not.toContain('mounted');
    }
    expect(await container.sh('find /sys/fs/cgroup -name release_agent 2>/dev/null')).toBe('');
  });

  test('S20 uid 0 inside is not 0 outside', async (context) => {
    if (!lab().map.rooted) skip(context, "an ordinary user's container has no more than that user");
    const { pid } = await debian();
    const text = readFileSync(`/proc/${pid}/status`, 'utf8');
    for (const field of ['Uid', 'Gid'])
      expect(new Set(status(text, field).split('\t'))).toEqual(new Set([String(0x6fff0000)]));
    expect(readFileSync(`/proc/${pid}/uid_map`, 'utf8').trim().split(/\s+/)).toEqual([
      '0',
      String(0x6fff0000),
      '65536',
    ]);
    expect(statSync(`/proc/${pid}`).uid, 'what it owns in /proc').toBe(0x6fff0000);
  });

  test('S20 what a container writes belongs to the mapped id, and a shared folder keeps its owners', async () => {
    const folder = join(lab().folder, 'share-writes');
    mkdirSync(folder);
    const container = await temporary({
      machine: { shares: [{ host: folder, guest: '/srv/share', readonly: false }] },
    });
    expect(await container.sh('stat -c %u /srv/share; echo hi >/srv/share/file && echo ok; echo hi >/root/file')).toBe(
      '0\nok',
    );
    expect(statSync(join(folder, 'file')).uid).toBe(process.geteuid?.());
    expect(statSync(join(container.upper, 'root/file')).uid).toBe(lab().idOutside(0));
  });

  test('a read-only share cannot be written, nor made writable', async () => {
    const folder = join(lab().folder, 'share-readonly');
    mkdirSync(folder, { mode: 0o777 });
    const container = await temporary({ machine: { shares: [{ host: folder, guest: '/srv/share', readonly: true }] } });
    expect(await container.sh('touch /srv/share/file')).toContain('Read-only file system');
    expect(await container.sh('mount -o remount,rw /srv/share 2>&1')).not.toBe('');
    expect(await container.sh('umount /srv/share 2>&1')).not.toBe('');
    expect(readdirSync(folder)).toEqual([]);
  });

  test('a share below a folder of the image leaves the owner of that folder alone', async () => {
    const folder = join(lab().folder, 'share-home');
    mkdirSync(folder, { mode: 0o755 });
    const container = await temporary({
      machine: { shares: [{ host: folder, guest: '/home/tsv/src', readonly: false }] },
    });
    expect(await container.sh('stat -c %U /home/tsv')).toBe('tsv');
  });

  test('a container sees its own processes only, and all its namespaces are its own', async () => {
    const container = await debian();
    expect((await container.sh('ls /proc | grep -c "^[0-9]*$"')).length).toBeLessThan(2);
    for (const name of ['user', 'mnt', 'pid', 'net', 'uts', 'ipc', 'cgroup', 'time']) {
      expect(readlinkSync(`/proc/${container.pid}/ns/${name}`), name).not.toBe(readlinkSync(`/proc/self/ns/${name}`));
    }
  });

  test('a container cannot signal, trace or see its runtime', async () => {
    const container = await debian();
    expect(await container.sh(`kill -0 ${process.pid} 2>&1`)).toContain('No such process');
    expect(await container.sh('dmesg 2>&1 | head -1; date -s 2000-01-01 2>&1 | tail -1; hostname evil 2>&1')).toMatch(
      /not permitted/,
    );
    expect(await container.sh('hostname')).toBe('shared');
  });
});

describe('S17 the kernel interfaces', () => {
  test('S17 that are masked read as empty', async () => {
    const container = await debian();
    for (const path of [
      '/proc/kcore',
      '/proc/keys',
      '/proc/timer_list',
      '/proc/interrupts',
      '/proc/sched_debug',
      '/proc/latency_stats',
    ]) {
      expect(await container.sh(`if [ -e ${path} ]; then head -c 10 ${path}; fi`), path).toBe('');
    }
    for (const path of ['/proc/acpi', '/proc/scsi', '/proc/asound', '/sys/firmware', '/sys/devices/virtual/powercap']) {
      expect(await container.sh(`if [ -e ${path} ]; then ls -A ${path}; fi`), path).toBe('');
    }
  });

  test('S17 that are read-only cannot be written', async () => {
    const container = await debian();
    for (const path of [
      '/proc/sys/kernel/core_pattern',
      '/proc/sys/vm/drop_caches',
      '/proc/sys/net/ipv4/ip_forward',
      '/proc/sys/kernel/hostname',
      '/proc/sysrq-trigger',
      '/proc/irq/default_smp_affinity',
      '/sys/kernel/mm/ksm/run',
    ]) {
      expect(
        await container.sh(`if [ -e ${path} ]; then (echo 1 >${path}) 2>&1; else echo Read-only file system; fi`),
        path,
      ).toMatch(/Read-only file system|Permission denied/);
    }
    // Files of the host's root are not the container's to write anyway: what protects the others is the mount.
    for (const path of ['/proc/sys/net/ipv4/ip_forward', '/proc/sys/kernel/hostname', '/proc/sys/kernel/msgmax'])
      expect(await container.sh(`(cat ${path} >${path}) 2>&1`), path).toContain('Read-only file system');
    const mounts = (await container.sh('cat /proc/self/mountinfo')).split('\n').map((line) => line.split(' '));
    for (const path of ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger', '/sys']) {
      if (!existsSync(path)) continue; // a kernel without it
      const options = mounts.filter(([, , , , point]) => point === path).map((fields) => fields[5]?.split(',')[0]);
      expect([path, options.at(-1)]).toEqual([path, 'ro']);
    }
  });

  test('S17 stay so: no mask can be taken off', async () => {
    const container = await debian();
    for (const path of ['/proc/kcore', '/proc/interrupts', '/proc/sys', '/sys/firmware', '/proc', '/sys']) {
      expect(
        await container.sh(
          `perl -e '$p = "${path}"; -e $p or print("Invalid argument") and exit; syscall(166, $p, 2) == 0 and print "unmounted" or print $!'`,
        ),
        path,
      ).toMatch(/Operation not permitted|Invalid argument/);
    }
    expect(
      await container.sh('mount -o remount,rw /proc/sys 2>&1; (echo 1 >/proc/sys/kernel/core_pattern) 2>&1'),
    ).toContain('Read-only file system');
  });

  test('S17 are not to be had by new namespaces', async () => {
    const container = await debian();
    const user = await container.sh(
      'unshare --user --map-root-user --mount sh -c "umount -l /proc/interrupts && head -c 4 /proc/interrupts | wc -c" 2>&1',
    );
    expect(user).not.toBe('4');
    expect(await container.sh('unshare --mount true 2>&1')).toContain('Operation not permitted');
  });
});

describe('S24 the user of a command', () => {
  for (const user of [
    'nobody-of-this-name',
    '',
    '4294967296',
    '4294967295',
    '18446744073709551616',
    '-1',
    '0x0',
    '1e0',
    ' 0',
    'root:nogroup-of-this-name',
    'root:4294967296',
  ]) {
    test(`S24 ${JSON.stringify(user)} is an error, and never root`, async () => {
      expect(await failure((await debian()).exec(['id', '-u'], { user }))).toMatchObject({ code: 'TSV_UNSUPPORTED' });
    });
  }

  test('S24 may be a name, a number, or with a group; supplementary groups are set', async () => {
    const container = await debian();
    expect(await container.sh('id -u; id -g; id -Gn', { user: 'tsv' })).toMatch(/^1000\n1000\ntsv( \w+)*$/);
    expect(await container.sh('id -u; id -g', { user: '1000' })).toBe('1000\n1000');
    expect(await container.sh('id -u; id -g', { user: 'tsv:daemon' })).toBe('1000\n1');
    expect(await container.sh('id -u; id -G', { user: '4321' })).toBe('4321\n0');
    expect(await container.sh('id -G')).toBe('0');
  });

  for (const [what, line] of [
    ['overflows', 'evil:x:4294967296:100::/:/bin/sh'],
    ['is empty', 'evil:x::100::/:/bin/sh'],
    ['is no number', 'evil:x:abc:100::/:/bin/sh'],
  ] as const) {
    test(`S24 a user whose id in the image's passwd ${what} is an error, and never root`, async () => {
      const box = lab().image((rootfs) =>
        writeFileSync(join(rootfs, 'etc/passwd'), `root:x:0:0::/root:/bin/sh\n${line}\n`),
      );
      const container = await temporary({ box });
      expect(await failure(container.exec(['id', '-u'], { user: 'evil', cwd: '/' }))).toMatchObject({
        code: 'TSV_UNSUPPORTED',
      });
    });
  }
});

describe('the end of a command', () => {
  test('gives its exit code, or 128 and the signal', async () => {
    const container = await debian();
    for (const code of [0, 1, 42, 255]) expect((await container.exec(['sh', '-c', `exit ${code}`])).code).toBe(code);
    for (const [name, number] of [
      ['TERM', 15],
      ['KILL', 9],
      ['SEGV', 11],
      ['PIPE', 13],
    ] as const) {
      expect(await container.exec(['sh', '-c', `kill -${name} $$`])).toMatchObject({
        code: 128 + number,
        signal: name,
      });
    }
  });

  test('is 127 when there is no such command, 126 when it cannot be executed', async () => {
    const container = await debian();
    expect(await failure(container.exec(['no-such-command']))).toMatchObject({
      code: 'TSV_COMMAND_NOT_FOUND',
      exitCode: 127,
      message: "shared has no command 'no-such-command'",
    });
    expect(await failure(container.exec(['/etc/passwd/x']))).toMatchObject({ exitCode: 127 });
    expect(await failure(container.exec(['/etc/passwd']))).toMatchObject({
      exitCode: 126,
      message: "shared cannot execute '/etc/passwd' (EACCES)",
    });
    expect(await failure(container.exec(['/tmp']))).toMatchObject({ exitCode: 126 });
  });

  test('is reached by signals, which reach its whole process group', async () => {
    const container = await debian();
    const session = await (await container.transport()).exec({ argv: ['sh', '-c', 'sleep 1001 & echo started; wait'] });
    session.stderr.resume();
    await new Promise((resolve) => session.stdout.once('data', resolve));
    session.signal('TERM');
    expect(await session.exited).toEqual({ code: 143, signal: 'TERM' });
    await until('the sleep is gone', async () => (await container.exec(['pgrep', '-f', 'sleep 1001'])).stdout === '');
  });

  test('does not wait for what it left in the background', async () => {
    const container = await debian();
    expect(await container.exec(['sh', '-c', 'sleep 1002 & echo done'])).toMatchObject({ code: 0, stdout: 'done\n' });
    await container.exec(['pkill', '-f', 'sleep 1002']);
  });

  test('comes after its output was delivered, to however slow a reader', async () => {
    const session = await (await debian().then((container) => container.transport())).exec({
      argv: ['sh', '-c', 'head -c 100000 /dev/zero'],
    });
    session.stdin.end();
    let received = 0;
    const first = new Promise<void>((resolve) => {
      session.stdout.on('data', (data: Buffer) => {
        received += data.length;
        if (received === data.length) {
          session.stdout.pause(); // as a client does whose own reader stands still
          resolve();
        }
      });
    });
    await first;
    const early = await Promise.race([
      session.exited.then(() => `exited after ${received} of 100000 bytes`),
      pause(400, 'waits'),
    ]);
    session.stdout.resume();
    await session.exited;
    expect(early).toBe('waits');
    expect(received).toBe(100_000);
  });
});

describe('exec', () => {
  test('carries 64 MB each way, byte for byte', async () => {
    const chunk = randomBytes(1 << 20);
    const sent = createHash('sha256');
    const received = createHash('sha256');
    let bytes = 0;
    const session = await (await debian().then((container) => container.transport())).exec({ argv: ['cat'] });
    const source = function* () {
      for (let i = 0; i < 64; i++) {
        const piece = Buffer.from(chunk);
        piece.writeUInt32LE(i, 0);
        sent.update(piece);
        yield piece;
      }
    };
    const reading = (async () => {
      for await (const piece of session.stdout) {
        bytes += (piece as Buffer).length;
        received.update(piece as Buffer);
      }
    })();
    await pipeline(Readable.from(source()), session.stdin);
    expect(await session.exited).toEqual({ code: 0 });
    await reading;
    expect(bytes).toBe(64 << 20);
    expect(received.digest('hex')).toBe(sent.digest('hex'));
  });

  test('keeps standard output and standard error apart, and gives the environment as it is', async () => {
    const container = await debian();
    expect(
      await container.exec(['sh', '-c', 'echo out; echo err >&2; printf %s "$VALUE" >&2'], {
        env: { VALUE: 'ä b\nc=d' },
      }),
    ).toEqual({ code: 0, stdout: 'out\n', stderr: 'err\nä b\nc=d' });
  });

  test('has a terminal of the wanted size, and follows when the size changes', async () => {
    const session = await (await debian().then((container) => container.transport())).exec({
      argv: ['sh', '-c', 'stty size; tty; trap "stty size; exit 3" WINCH; echo ready; while :; do sleep 0.05; done'],
      pty: { cols: 100, rows: 40, term: 'xterm' },
    });
    let text = '';
    session.stdout.on('data', (data: Buffer) => {
      text += data.toString('utf8');
    });
    await until('it is ready', () => text.includes('ready'), { seen: () => text });
    session.resize(132, 50);
    expect(await session.exited).toEqual({ code: 3 });
    expect(text.replaceAll('\r', '')).toBe('40 100\n/dev/pts/0\nready\n50 132\n');
  });

  test('has a terminal whose keys are signals and end of file', async () => {
    const container = await debian();
    const onTerminal = async (argv: string[], keys: string, when: string) => {
      const session = await (await container.transport()).exec({ argv, pty: { cols: 80, rows: 24, term: 'xterm' } });
      let text = '';
      session.stdout.on('data', (data: Buffer) => {
        text += data.toString('utf8');
      });
      await until('it is ready', () => text.includes(when), { seen: () => text });
      session.stdin.write(keys);
      return session.exited;
    };
    expect(await onTerminal(['sh', '-c', 'echo ready; exec sleep 1000'], '\x03', 'ready')).toEqual({
      code: 130,
      signal: 'INT',
    });
    expect(await onTerminal(['sh', '-c', 'echo ready; exec cat'], 'text\r\x04', 'ready')).toEqual({ code: 0 });
  });

  test('is not hung up when it closes its terminal before it ends', async () => {
    const container = await debian();
    const argv = ['sh', '-c', 'exec 0<&- 1>&- 2>&-; sleep 0.2; exit 7'];
    const session = await (await container.transport()).exec({ argv, pty: { cols: 80, rows: 24, term: 'xterm' } });
    session.stdout.resume();
    expect(await session.exited).toEqual({ code: 7 });
  });

  test('S6 takes no terminal from a container that put something else in its place', async () => {
    const container = await temporary();
    await container.sh(
      'umount /dev/pts 2>/dev/null; rm -f /dev/ptmx; ln -s /etc/passwd /dev/ptmx; mv /dev/pts /dev/old 2>/dev/null; ls /dev/pts',
    );
    const session = await (await container.transport()).exec({
      argv: ['tty'],
      pty: { cols: 80, rows: 24, term: 'xterm' },
    });
    const text = await buffer(session.stdout);
    expect(text.toString('utf8').trim()).toBe('/dev/pts/0');
  });

  test('is refused, not run elsewhere, when the container has ended', async () => {
    const container = await temporary();
    const transport = await container.transport();
    await container.stop(true);
    await failure(transport.exec({ argv: ['true'] }));
    expect(await failure(lab().provider.connect(container.context, new AbortController().signal))).toMatchObject({
      code: 'TSV_NOT_RUNNING',
    });
  });
});

describe('copying', () => {
  const read = async (container: Container, path: string): Promise<string> =>
    (await buffer(await (await container.transport()).get(path))).toString('utf8');

  test('writes a file whole, with mode and owner, and reads it back', async () => {
    const container = await debian();
    const transport = await container.transport();
    await transport.put(Buffer.from('one'), '/tmp/put');
    await transport.put(Readable.from([Buffer.from('tw'), Buffer.from('o')]), '/tmp/put', {
      mode: 0o640,
      owner: 'tsv:daemon',
    });
    expect(await container.sh('stat -c "%a %U %G" /tmp/put; ls -A /tmp | grep -c put')).toBe('640 tsv daemon\n1');
    expect(await read(container, '/tmp/put')).toBe('two');
  });

  test('replaces a link at the destination instead of following it', async () => {
    const container = await debian();
    await container.sh('echo untouched >/tmp/target; ln -sf /tmp/target /tmp/link');
    await (await container.transport()).put(Buffer.from('new'), '/tmp/link');
    expect(await container.sh('cat /tmp/target; cat /tmp/link; [ -L /tmp/link ] && echo link')).toBe('untouched\nnew');
  });

  test('never leaves the root file system, whatever links the container has', async () => {
    const container = await debian();
    const outside = join(lab().folder, 'secret');
    writeFileSync(outside, 'secret of the host');
    const folder = join(lab().folder, 'copy-target');
    mkdirSync(folder, { mode: 0o777 });
    await container.sh(
      `ln -sfn ${outside} /tmp/a; ln -sfn ../../../../../..${outside} /tmp/b; ln -sfn ${folder} /tmp/d; ln -sfn /proc/1/root /tmp/r; ln -sfn /proc/self/cwd /tmp/w`,
    );
    const transport = await container.transport();
    for (const path of [
      '/tmp/a',
      '/tmp/b',
      `/../../..${outside}`,
      `/tmp/r${outside}`,
      `/tmp/w${outside}`,
      `/proc/self/root${outside}`,
      `/proc/${process.pid}/root${outside}`,
    ]) {
      expect((await failure(transport.get(path))).code, path).toBe('TSV_SYSCALL');
    }
    for (const path of [
      '/tmp/d/file',
      `/../..${folder}/file`,
      `/tmp/r${folder}/file`,
      '/proc/self/cwd/file',
      '/tmp/w/file',
    ]) {
      expect((await failure(transport.put(Buffer.from('x'), path))).code, path).toBe('TSV_SYSCALL');
    }
    expect(readdirSync(folder)).toEqual([]);
    expect(readFileSync(outside, 'utf8')).toBe('secret of the host');
  });

  test('reads files only: no folder, no pipe, no device', async () => {
    const container = await debian();
    await container.sh('rm -f /tmp/fifo; mkfifo /tmp/fifo');
    const transport = await container.transport();
    for (const path of ['/tmp', '/tmp/fifo', '/dev/zero'])
      expect((await failure(transport.get(path))).code, path).toBe('TSV_UNSUPPORTED');
  });

  test('writes into a share', async () => {
    const folder = join(lab().folder, 'share-put');
    mkdirSync(folder);
    const container = await temporary({
      machine: { shares: [{ host: folder, guest: '/srv/share', readonly: false }] },
    });
    await (await container.transport()).put(Buffer.from('text'), '/srv/share/file');
    expect(readFileSync(join(folder, 'file'), 'utf8')).toBe('text');
    expect(statSync(join(folder, 'file')).uid, 'root of the container is the owner of the folder').toBe(
      process.geteuid?.(),
    );
  });

  test('leaves no half file on a full disk, and keeps the file that was there', async () => {
    const container = await debian();
    await container.sh('rm -rf /dev/shm/*; echo old >/dev/shm/file');
    const large = Readable.from(
      (function* () {
        for (let i = 0; i < 80; i++) yield Buffer.alloc(1 << 20);
      })(),
    );
    expect(await failure((await container.transport()).put(large, '/dev/shm/file'))).toMatchObject({
      code: 'TSV_SYSCALL',
      message: expect.stringContaining('no space left'),
    });
    expect(await container.sh('ls -A /dev/shm; cat /dev/shm/file')).toBe('file\nold');
  });

  test('leaves no half file when the sender fails, or the owner does not exist', async () => {
    const container = await debian();
    await container.sh('mkdir -p /tmp/clean');
    const transport = await container.transport();
    const broken = Readable.from(
      (function* () {
        yield Buffer.from('half');
        throw new Error('the sender failed');
      })(),
    );
    expect((await failure(transport.put(broken, '/tmp/clean/file'))).message).toBe('the sender failed');
    expect(
      await failure(transport.put(Buffer.from('x'), '/tmp/clean/file', { owner: 'nobody-of-this-name' })),
    ).toMatchObject({ code: 'TSV_UNSUPPORTED' });
    expect(await container.sh('ls -A /tmp/clean')).toBe('');
  });
});

describe('limits', () => {
  test('memory: a container that takes more than its own is killed, and the others are not', async (context) => {
    if (!lab().controllers().has('memory')) skip(context, 'no memory cgroup can be made here');
    const container = await temporary({ machine: { memoryBytes: 48 << 20 } });
    expect(await container.exec(['perl', '-e', '$x = "a" x (10 << 20); print "fits"'])).toMatchObject({
      code: 0,
      stdout: 'fits',
    });
    expect(await container.exec(['perl', '-e', '$x = "a" x (200 << 20); print "fits"'])).toMatchObject({
      code: 137,
      signal: 'KILL',
      stdout: '',
    });
    expect(isAlive(container.process), 'PID 1 lives on').toBe(true);
  });

  test('processes: a container cannot have more than its own', async (context) => {
    if (!lab().controllers().has('pids')) skip(context, 'no pids cgroup can be made here');
    const container = await temporary({ machine: { pids: 20 } });
    const count =
      'for (1..100) { my $p = fork; last unless defined $p; if (!$p) { sleep 1000; exit } push @p, $p } kill 9, @p; print scalar @p';
    const made = Number((await container.exec(['perl', '-e', count])).stdout);
    expect(made).toBeGreaterThan(5);
    expect(made).toBeLessThan(20);
  });

  test('CPU: the quota is set', async (context) => {
    if (!lab().controllers().has('cpu')) skip(context, 'no cpu cgroup can be made here');
    const container = await temporary({ machine: { cpus: 0.25 } });
    const folders = lab().cgroupFolders(container.context.machine.name);
    const quotas = folders
      .flatMap((folder) => ['cpu.cfs_quota_us', 'cpu.max'].map((file) => join(folder, file)))
      .filter((file) => existsSync(file))
      .map((file) => readFileSync(file, 'utf8'));
    expect(quotas).toEqual([expect.stringMatching(/^25000\b/)]);
    for (const folder of folders)
      expect(readFileSync(join(folder, 'cgroup.procs'), 'utf8').trim().split('\n')).toContain(String(container.pid));
  });

  test('a limit that cannot be set is said, not passed over', async () => {
    const container = await temporary();
    const missing = ['memory', 'cpu', 'pids'].filter((name) => !lab().controllers().has(name));
    expect(container.notices).toEqual(
      missing.length === 0 ? [] : [expect.stringContaining(`no limit on ${missing.join(', ')}`)],
    );
  });
});

describe('life and death', () => {
  test('kill -9 of PID 1 is noticed, and everything inside is gone with it', async () => {
    const container = await temporary();
    const transport = await container.transport();
    const session = await transport.exec({ argv: ['sleep', '1000'] });
    const { pid } = container;
    const gone = waitExit(pid);
    process.kill(pid, 'SIGKILL');
    await gone;
    await transport.closed;
    expect(await session.exited).toEqual({ code: 137, signal: 'KILL' });
    expect(await lab().provider.observe(container.context)).toEqual({ state: 'stopped', unexpectedly: true });
  });

  test('a command that asked for it is told of TERM and may end in order', async () => {
    const container = await temporary({
      machine: { command: ['sh', '-c', 'trap "echo bye; exit 0" TERM; echo hello; while :; do sleep 0.02; done'] },
    });
    await until('it runs', () => container.log.includes('hello'));
    await container.stop();
    expect(container.log).toBe('hello\nbye\n');
  });

  test('a command that ignores TERM is killed when its grace is over', async () => {
    const container = await temporary({
      machine: {
        stopTimeoutMs: 200,
        command: ['sh', '-c', 'trap "echo no" TERM; echo hello; while :; do sleep 0.02; done'],
      },
    });
    await until('it runs', () => container.log.includes('hello'));
    await container.stop();
    expect(container.log).toBe('hello\nno\n');
    expect(isAlive(container.process)).toBe(false);
  });

  test('the init reaps what loses its parent, and ends on TERM with everything inside', async () => {
    const container = await temporary();
    await container.sh('(setsid sleep 0 &) ; (setsid sh -c "exit 3" &)');
    await until(
      'no zombie is left',
      async () => !(await container.sh('cat /proc/[0-9]*/stat | cut -d" " -f3')).includes('Z'),
    );
    const session = await (await container.transport()).exec({
      argv: ['sh', '-c', 'trap "exit 9" TERM; echo ready; while :; do sleep 0.02; done'],
    });
    session.stderr.resume(); // what is not read is waited for
    await new Promise((resolve) => session.stdout.once('data', resolve));
    await container.stop();
    expect(await session.exited).toEqual({ code: 9 });
  });

  test('whoever enters before the start does not take the place of the command, which its init waits for', async () => {
    const isolation = { ...isolationOf({}), init: true };
    const command = ['sh', '-c', 'trap "echo asked; exit 7" TERM; echo command $$; while :; do sleep 0.02; done'];
    const container = lab().container({ machine: { command, isolation } });
    onTestFinished(() => container.destroy());
    await lab().provider.create(container.context);
    let entered: Promise<unknown> = Promise.resolve();
    await lab().provider.start(
      container.context,
      new AbortController().signal,
      () => {},
      async (process) => {
        container.process = process;
        const session = await (await container.transport()).exec({
          argv: ['sh', '-c', 'echo entered; exec sleep 1000'],
        });
        await new Promise((resolve) => session.stdout.once('data', resolve));
        session.stdout.resume();
        session.stderr.resume();
        entered = session.exited;
      },
    );
    await until('the command runs', () => container.log.includes('command'));
    expect(container.log).toBe('command 2\n');
    expect(await container.sh('pgrep -x sleep | wc -l')).toMatch(/^[12]$/);
    await container.stop();
    expect(container.log).toBe('command 2\nasked\n');
    expect(await entered).toEqual({ code: 137, signal: 'KILL' });
  });

  test('a command that does not exist is the reason for a start that fails; nothing of it stays', async () => {
    const container = lab().container({ machine: { command: ['no-such-command'] } });
    const name = container.context.machine.name;
    expect(await failure(container.start())).toMatchObject({
      code: 'TSV_COMMAND_NOT_FOUND',
      exitCode: 127,
      message: `${name} has no command 'no-such-command'`,
    });
    await container.destroy();
    expect(lab().cgroupFolders(name)).toEqual([]);
  });

  test('a container that the state could not record never runs', async () => {
    const container = lab().container({ machine: { command: ['sh', '-c', 'touch /ran; sleep 1000'] } });
    await lab().provider.create(container.context);
    let recorded = 0;
    const start = lab().provider.start(
      container.context,
      new AbortController().signal,
      () => {},
      async ({ pid }) => {
        recorded = pid;
        throw new Error('the disk is full');
      },
    );
    expect((await failure(start)).message).toBe('the disk is full');
    await waitExit(recorded);
    expect(existsSync(join(container.upper, 'ran'))).toBe(false);
    await container.destroy();
  });

  test('a start that was cancelled before it began starts nothing', async () => {
    const container = lab().container();
    await lab().provider.create(container.context);
    await failure(lab().provider.start(container.context, AbortSignal.abort(new Error('cancelled')), () => {}));
    expect(await lab().provider.observe(container.context)).toEqual({ state: 'stopped', unexpectedly: false });
    await container.destroy();
  });

  test('20 containers start at once, each with its own address', async () => {
    const containers = await Promise.all(Array.from({ length: 20 }, () => lab().started({ networked: true })));
    const found = await Promise.all(
      containers.map((container) => container.sh('ip -4 -o addr show eth0 | grep -o "10.99[0-9.]*/24"')),
    );
    expect(found).toEqual(containers.map((container) => `${container.context.addresses[0]?.address}/24`));
    await Promise.all(containers.map((container) => container.destroy()));
  });

  test('200 starts and ends leave no descriptor, process, mount or cgroup behind', async () => {
    const cycle = async () => {
      const container = await lab().started({ machine: { name: `cycle-${counter++}` } });
      await container.destroy();
    };
    let counter = 0;
    await Promise.all([cycle(), cycle(), cycle(), cycle()]);
    const look = () => ({
      fds: readdirSync('/proc/self/fd').length,
      mounts: readFileSync('/proc/self/mountinfo', 'utf8')
        .split('\n')
        .filter((line) => line.includes(lab().folder)).length,
      children: [...listProcesses().values()].filter(
        ({ parent, name }) => parent === process.pid && name === 'tsv-init',
      ).length,
      machines: readdirSync(join(lab().folder, 'machines')).filter((name) => name.startsWith('cycle-')).length,
      cgroups: lab()
        .cgroupFolders('')
        .flatMap((folder) => readdirSync(folder))
        .filter((name) => name.startsWith('cycle-')).length,
    });
    const before = look();
    await Promise.all(
      [1, 2, 3, 4].map(async () => {
        while (counter < 204) await cycle();
      }),
    );
    const after = look();
    expect(after.fds - before.fds).toBeLessThanOrEqual(5);
    expect({ ...after, fds: 0 }).toEqual({ ...before, fds: 0 });
  });
});
