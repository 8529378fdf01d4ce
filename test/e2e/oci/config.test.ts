import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { ociHost, useRootfs } from '../../support/bundle.ts';
import { isRoot, rootTest } from '../../support/root.ts';
import { until } from '../../support/until.ts';

useRootfs();

const manyIds = rootTest('a user can map one id alone without help');
const foreign = rootTest("another one's namespace or an interface of the host");
const devices = rootTest('a user can make no device nodes');

const grep = (pattern: RegExp, text: string): string => pattern.exec(text)?.[1] ?? `nothing like ${pattern} in ${text}`;

describe('config.json', () => {
  test('a read-only root file system stays as it is', async () => {
    const box = ociHost().container('touch /file; echo $?; touch /tmp/file; echo $?', (config) => {
      config.root = { path: 'rootfs', readonly: true };
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
    });
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\n0\n');
    expect(stderr).toContain('Read-only file system');
    expect(readdirSync(box.rootfs)).not.toContain('file');
  });

  rootTest('in a user namespace all binds are taken first')(
    'mounts are listed in the order of config.json, so that the last one at a folder is the one that is seen',
    async () => {
      const box = ociHost().container('grep " /tmp " /proc/self/mountinfo; ls /tmp', (config, { bundle }) => {
        mkdirSync(join(bundle, 'seen/file'), { recursive: true });
        config.mounts.push(
          { destination: '/tmp', type: 'tmpfs', source: 'covered' },
          { destination: '/tmp', type: 'bind', source: 'seen', options: ['bind'] },
        );
      });
      const [below = '', above = '', ...listed] = (await box.ok('run')).trim().split('\n');
      expect(below).toContain(' covered ');
      expect(above).toContain(`${box.id}/seen /tmp `);
      expect(listed).toEqual(['file']);
    },
  );

  test('options for a whole tree hold for a new file system too', async () => {
    const box = ociHost().container('touch /tmp/file; grep -o " /tmp [a-z,]*" /proc/self/mountinfo', (config) => {
      config.mounts.push({
        destination: '/tmp',
        type: 'tmpfs',
        source: 'tmpfs',
        options: ['rro', 'rnosuid', 'rnoexec'],
      });
    });
    const { stdout, stderr } = await box.call('run');
    expect(stderr).toContain('Read-only file system');
    expect(stdout).toMatch(/^ \/tmp ro,nosuid,noexec/);
  });

  test('what is mounted at / is the root file system, with a copy of the image where that is asked for', async () => {
    const { host } = ociHost().container();
    const bound = host.container('cat /only-here; ls /dev/null', (config, { rootfs, bundle }) => {
      renameSync(join(rootfs, 'bin'), join(bundle, 'bin'));
      mkdirSync(join(bundle, 'other'));
      for (const name of ['dev', 'proc']) mkdirSync(join(bundle, 'other', name));
      renameSync(join(bundle, 'bin'), join(bundle, 'other/bin'));
      writeFileSync(join(bundle, 'other/only-here'), 'other\n');
      config.mounts.unshift({ destination: '/', type: 'bind', source: 'other', options: ['bind'] });
    });
    expect(await bound.ok('run')).toBe('other\n/dev/null\n');
    const copied = host.container('touch /etc/new; ls /etc; grep " / / " /proc/self/mountinfo', (config) => {
      config.mounts.unshift({ destination: '/', type: 'tmpfs', source: 'copy', options: ['tmpcopyup'] });
    });
    expect(await copied.ok('run')).toMatch(/^group\nnew\npasswd\n.* \/ \/ .* tmpfs copy .*\n$/);
    expect(readdirSync(join(copied.rootfs, 'etc'))).not.toContain('new');
  });

  test('names and user are those of config.json', async () => {
    const box = ociHost().container('hostname; cat /proc/sys/kernel/domainname; id -u; pwd; echo $PPID', (config) => {
      config.hostname = 'some-name';
      config.domainname = 'example.org';
      config.process.cwd = '/etc';
    });
    expect(await box.ok('run')).toBe('some-name\nexample.org\n0\n/etc\n0\n');
  });

  manyIds('an ordinary user in a container has no capabilities, and its groups', async () => {
    const box = ociHost().container('id; grep ^Cap /proc/self/status', (config) => {
      config.process.user = { uid: 1000, gid: 1000, additionalGids: [5, 6] };
    });
    const printed = await box.ok('run');
    expect(printed).toContain('uid=1000(user) gid=1000(user) groups=5,6\n');
    expect(printed).toMatch(/^CapEff:\s*0+$/m);
  });

  test('a container has new namespaces of the listed types and shares the others', async () => {
    const kinds = ['pid', 'net', 'ipc', 'uts', 'mnt', 'cgroup', 'user', 'time'];
    const box = ociHost().container(kinds.map((kind) => `readlink /proc/self/ns/${kind}`).join('; '));
    const printed = (await box.ok('run')).trim().split('\n');
    const shared = kinds.filter((kind, i) => printed[i] === readlinkSync(`/proc/self/ns/${kind}`));
    expect(shared).toEqual(isRoot ? ['cgroup', 'user', 'time'] : ['cgroup', 'time']);
  });

  foreign('joins namespaces by their paths', async () => {
    const host = ociHost();
    const holder = host.spawn([
      'unshare',
      '--net',
      '--uts',
      '--ipc',
      'sh',
      '-c',
      'hostname held; ip link set lo up; echo ready; exec sleep 1000',
    ]);
    await holder.prints(/ready/);
    const box = host.container('hostname; ip link show lo; readlink /proc/self/ns/ipc', (config) => {
      delete config.hostname;
      for (const namespace of config.linux.namespaces) {
        const file = { network: 'net', uts: 'uts', ipc: 'ipc' }[namespace.type as string];
        if (file !== undefined) namespace.path = `/proc/${holder.pid}/ns/${file}`;
      }
    });
    const printed = await box.ok('run');
    expect(printed).toContain('held\n');
    expect(printed).toMatch(/lo: <LOOPBACK,UP/);
    expect(printed).toContain(readlinkSync(`/proc/${holder.pid}/ns/ipc`));
    holder.signal('SIGKILL');
    await holder.result;
  });

  manyIds('maps the ids of a user namespace', async () => {
    const box = ociHost().container('id -u; cat /proc/self/uid_map; touch /tmp/file; exec sleep 1000', (config) => {
      config.linux.namespaces.push({ type: 'user' });
      config.linux.uidMappings = [{ containerID: 0, hostID: 300_000, size: 1000 }];
      config.linux.gidMappings = [{ containerID: 0, hostID: 400_000, size: 1000 }];
      config.mounts.push({ destination: '/tmp', type: 'tmpfs', source: 'tmpfs' });
    });
    await box.ok('run --detach');
    await until('it has spoken', () => /^0\n\s+0\s+300000\s+1000\n/.test(box.output));
    const pid = await box.pid();
    expect(statSync(`/proc/${pid}`).uid).toBe(300_000);
    expect(statSync(`/proc/${pid}/root/tmp`).gid).toBe(400_000);
  });

  test('mounts: bind, read-only, tmpfs with a size, and what is missing is made', async () => {
    const script = 'cat /data/file; touch /data/x; touch /more/deep/file; cat /one; stat -c %a /t; df -k /t | tail -1';
    const host = ociHost();
    const shared = join(host.dir, 'shared');
    mkdirSync(shared);
    writeFileSync(join(shared, 'file'), 'shared\n');
    const box = host.container(script, (config) => {
      config.mounts.push(
        { destination: '/data', type: 'bind', source: shared, options: ['rbind', 'ro'] },
        { destination: '/more/deep', type: 'bind', source: shared, options: ['bind'] },
        { destination: '/one', source: '../shared/file', options: ['bind'] },
        { destination: '/t', type: 'tmpfs', source: 'tmpfs', options: ['mode=1750', 'size=1m', 'noexec'] },
      );
    });
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toMatch(/^shared\nshared\n1750\ntmpfs +1024 /);
    expect(stderr.trim()).toBe('touch: /data/x: Read-only file system');
    expect(readdirSync(shared).sort()).toEqual(['file']);
  });

  test('recursive options act on any mount, and leave what is mounted in it later', async () => {
    const script =
      'touch /t/x; echo $?; touch /t/in/x; echo $?; touch /b/x; echo $?; grep -E " /(t|t/in|q|b) " /proc/mounts';
    const box = ociHost().container(script, (config, box) => {
      config.mounts.push(
        { destination: '/t', type: 'tmpfs', source: 'tmpfs', options: ['rro', 'rnoexec'] },
        { destination: '/t/in', type: 'tmpfs', source: 'tmpfs' },
        { destination: '/q', type: 'mqueue', source: 'mqueue', options: ['rnosuid', 'rnodev'] },
        { destination: '/b', type: 'bind', source: box.bundle, options: ['rbind'] },
        { destination: '/b', options: ['remount', 'bind', 'rro'] },
      );
    });
    const [above, inside, bound, ...mounts] = (await box.call('run')).stdout.trim().split('\n');
    expect([above, inside, bound]).toEqual(['1', '0', '1']);
    const options = new Map(mounts.map((line) => [line.split(' ')[1], line.split(' ')[3]]));
    expect(options.get('/t')).toMatch(/^ro,noexec,/);
    expect(options.get('/t/in')).toMatch(/^rw,relatime/);
    expect(options.get('/q')).toMatch(/^rw,nosuid,nodev,/);
    expect(options.get('/b')).toMatch(/^ro,/);
  });

  test('masked paths are empty, read-only paths cannot be written', async () => {
    const script =
      'cat /etc/secret; ls /secrets; cat /proc/kcore | head -c 1; echo x >/etc/motd; echo $?; cat /etc/motd';
    const box = ociHost().container(script, (config) => {
      config.linux.maskedPaths = ['/etc/secret', '/secrets', '/proc/kcore', '/proc/nonsense'];
      config.linux.readonlyPaths = ['/etc/motd', '/proc/nonsense'];
    });
    box.file('etc/secret', 'secret');
    box.file('etc/motd', 'hello\n');
    mkdirSync(join(box.rootfs, 'secrets'));
    box.file('secrets/one', 'secret');
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\nhello\n');
    expect(stderr).toContain('Read-only file system');
  });

  test('sysctl of the container’s own namespaces are set', async () => {
    const box = ociHost().container(
      'cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/kernel/msgmax',
      (config) => {
        config.linux.sysctl = { 'net.ipv4.ip_unprivileged_port_start': '80', 'kernel.msgmax': '9000' };
      },
    );
    expect(await box.ok('run')).toBe('80\n9000\n');
    expect(readFileSync('/proc/sys/kernel/msgmax', 'utf8')).not.toBe('9000\n');
  });

  test('a seccomp profile denies the calls that it names, with its error', async () => {
    const box = ociHost().container(
      'mkdir /tmp/x; echo $?; hostname; chmod 700 /tmp; chmod 701 /tmp; grep Seccomp: /proc/self/status',
      (config) => {
        config.linux.seccomp = {
          defaultAction: 'SCMP_ACT_ALLOW',
          architectures: ['SCMP_ARCH_X86_64'],
          syscalls: [
            { names: ['mkdir', 'mkdirat'], action: 'SCMP_ACT_ERRNO', errnoRet: 95 },
            { names: ['chmod'], action: 'SCMP_ACT_ERRNO', args: [{ index: 1, value: 0o701, op: 'SCMP_CMP_EQ' }] },
          ],
        };
      },
    );
    const { stdout, stderr } = await box.call('run');
    expect(stdout).toBe('1\nbox\nSeccomp:\t2\n');
    expect(stderr).toContain("can't create directory '/tmp/x': Operation not supported");
    expect(stderr).toContain('/tmp: Operation not permitted');
    expect(statSync(join(box.rootfs, 'tmp')).mode & 0o777).toBe(0o700);
  });

  test('what of a seccomp profile has no effect is in the log', async () => {
    const box = ociHost().container('exec true', (config) => {
      config.linux.seccomp = {
        defaultAction: 'SCMP_ACT_ALLOW',
        syscalls: [
          { names: ['mkdir', 'no_such_call'], action: 'SCMP_ACT_ERRNO' },
          { names: ['other_call'], action: 'SCMP_ACT_ALLOW' },
        ],
      };
    });
    const log = join(box.bundle, 'log');
    expect((await box.host.oci(['--log', log, ...box.args('run')])).code).toBe(0);
    const lines = readFileSync(log, 'utf8').trim().split('\n');
    expect(lines).toEqual([
      expect.stringMatching(/level=warning msg="linux\.seccomp\.syscalls\[0\]\.names\[1\]: .*'no_such_call'/),
    ]);
  });

  test('no new privileges and the five sets of capabilities are as config.json says', async () => {
    const box = ociHost().container('grep -E "^(Cap|NoNewPrivs)" /proc/self/status', (config) => {
      config.process.noNewPrivileges = true;
      config.process.capabilities = {
        bounding: ['CAP_CHOWN', 'CAP_KILL'],
        permitted: ['CAP_CHOWN', 'CAP_KILL'],
        effective: ['CAP_KILL'],
        inheritable: ['CAP_KILL'],
        ambient: ['CAP_KILL'],
      };
    });
    const [CAP_CHOWN, CAP_KILL] = [1, 0x20];
    const printed = await box.ok('run');
    const set = (name: string) => Number.parseInt(grep(new RegExp(`^${name}:\\s*([0-9a-f]+)$`, 'm'), printed), 16);
    expect(set('CapBnd')).toBe(CAP_CHOWN | CAP_KILL);
    expect(set('CapInh')).toBe(CAP_KILL);
    expect(set('CapAmb')).toBe(CAP_KILL);
    expect(set('NoNewPrivs')).toBe(1);
  });

  devices('devices are made with their numbers, mode and owner', async () => {
    const box = ociHost().container(
      'stat -c "%F %t %T %a %u" /dev/own /dev/deep/pipe; head -c 3 /dev/own | wc -c; ls /dev',
      (config) => {
        config.linux.devices = [
          { type: 'c', path: '/dev/own', major: 1, minor: 5, fileMode: 0o644, uid: 12, gid: 13 },
          { type: 'p', path: '/dev/deep/pipe', fileMode: 0o600 },
        ];
      },
    );
    const printed = await box.ok('run');
    expect(printed).toContain('character special file 1 5 644 12\nfifo 0 0 600 0\n3\n');
    for (const name of ['null', 'zero', 'full', 'random', 'urandom', 'tty', 'ptmx', 'stdin', 'fd'])
      expect(printed.split('\n')).toContain(name);
  });

  devices(
    'devices of a container with a user namespace are its own too, whatever the host has at that path',
    async () => {
      const box = ociHost().container(
        'stat -c "%n %F %t %T %a %u %g" /dev/null /dev/own; head -c 3 /dev/own | wc -c; echo lost >/dev/null; echo $?',
        (config) => {
          config.linux.namespaces.push({ type: 'user' });
          config.linux.uidMappings = [{ containerID: 0, hostID: 100_000, size: 100 }];
          config.linux.gidMappings = [{ containerID: 0, hostID: 200_000, size: 100 }];
          config.linux.devices = [
            { type: 'c', path: '/dev/own', major: 1, minor: 5, fileMode: 0o644, uid: 12, gid: 13 },
          ];
        },
      );
      expect(await box.ok('run')).toBe(
        '/dev/null character special file 1 3 666 0 0\n/dev/own character special file 1 5 644 12 13\n3\n0\n',
      );
    },
  );

  rootTest('a user has every capability of a namespace of its own')(
    'a capability that the caller does not have is left out, and the log says so',
    async () => {
      const box = ociHost().container('grep CapEff /proc/self/status', (config) => {
        const both = ['CAP_KILL', 'CAP_CHOWN'];
        config.process.capabilities = { bounding: both, effective: both, permitted: both };
      });
      const less = ['setpriv', '--bounding-set=-chown', ...box.host.argv(box.args('run'))];
      const { code, stdout, stderr } = await box.host.spawn(less, { input: '' }).result;
      expect({ code, stdout }).toEqual({ code: 0, stdout: 'CapEff:\t0000000000000020\n' });
      expect(stderr).toContain('process.capabilities: whoever starts it does not have them, left out: CAP_CHOWN');
      expect((await box.call('run')).stderr).toBe('');
    },
  );

  test('the time of a container can begin elsewhere', async (context) => {
    if (!existsSync('/proc/self/timens_offsets')) context.skip('this kernel has no time namespaces');
    const box = ociHost().container('cat /proc/uptime', (config) => {
      config.linux.namespaces.push({ type: 'time' });
      config.linux.timeOffsets = { boottime: { secs: 1_000_000 } };
    });
    expect(Number.parseFloat(await box.ok('run'))).toBeGreaterThan(1_000_000);
  });

  test('a personality is set', async () => {
    const box = ociHost().container('uname -m', (config) => {
      config.linux.personality = { domain: 'LINUX32' };
    });
    expect(await box.ok('run')).toBe('i686\n');
  });
});
