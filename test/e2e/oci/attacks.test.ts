import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Container, type Draft, type OciHost, ociHost, useRootfs } from '../../support/bundle.ts';
import { packageDir } from '../../support/cli.ts';
import { rootTest } from '../../support/root.ts';

/* The runtime, attacked by containers and by other users. The numbers are those of the security checklist. */

useRootfs();

const manyUsers = rootTest('only root can become another user');
const ptrace = rootTest('a user may not look into the namespace of another container');
const looks = rootTest('a user may not enter the namespaces of a container to look');

/** sha256 of what a container's escape would overwrite: Node, the native module, the programs of this build. */
function hostPrograms(): Record<string, string> {
  const modules = join(packageDir, 'node_modules');
  const below = (folder: string, pattern: RegExp): string[] =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((name) => pattern.test(name))
      .map((name) => join(folder, name));
  const files = [
    process.execPath,
    ...below(join(packageDir, 'dist'), /\.(c?js)$/),
    ...['koffi', '@koromix']
      .map((name) => join(modules, name))
      .filter(existsSync)
      .flatMap((folder) => below(folder, /\.node$/)),
  ];
  for (const pattern of [/\.node$/, /\.cjs$/]) expect(files.some((file) => pattern.test(file))).toBe(true);
  return Object.fromEntries(files.map((file) => [file, createHash('sha256').update(readFileSync(file)).digest('hex')]));
}

describe('S1 the file that enters a container', () => {
  test('S1 an image that executes /proc/self/exe gets nothing of the host, by run and by exec', async () => {
    const before = hostPrograms();
    const host = ociHost();
    const lying = (box: Container) => {
      box.file('script', '#!/proc/self/exe\n', 0o755);
      symlinkSync('/proc/self/exe', join(box.rootfs, 'link'));
    };
    for (const command of ['/script', '/link', '/proc/self/exe']) {
      const box = host.container([command]);
      lying(box);
      const { code, stdout } = await box.call('run');
      expect([code, stdout], command).toEqual([127, '']);
    }
    // Meanwhile the container writes to the executable of whatever enters it, and notes what that was.
    const box = host.container(
      'while :; do for p in /proc/[0-9]*; do readlink $p/exe >>/tmp/seen; ' +
        '{ echo evil 1<>$p/exe; } && echo $p >>/tmp/written; done; done 2>/dev/null',
    );
    lying(box);
    await box.ok('run --detach');
    for (const command of ['/script', '/link', '/proc/self/exe'])
      for (let round = 0; round < 5; round++) expect((await box.call('exec', command)).code, command).not.toBe(0);
    expect(await box.ok('exec', 'true')).toBe('');
    expect(box.read('tmp/written')).toBe('');
    const seen = new Set(box.read('tmp/seen').trim().split('\n'));
    seen.delete('/memfd:tsv-child (deleted)');
    expect([...seen]).toEqual(['/bin/busybox']);
    await box.ok('delete --force');
    expect(hostPrograms()).toEqual(before);
  });

  ptrace('S1 is in memory only, made for one start, and written by nobody', async () => {
    const before = hostPrograms();
    const host = ociHost();
    const victim = host.container('echo untouched; exec sleep 1000');
    await victim.ok('create');
    const pid = await victim.pid();
    // In the victim's PID namespace, and allowed to look into all that is there, which no container is by default.
    const script =
      'readlink /proc/1/exe; exec 5</proc/1/exe; { echo evil 1<>/proc/1/exe; } 2>/dev/null || echo refused; ' +
      'echo held; read go; readlink /proc/1/exe; echo evil >/proc/self/fd/5 && echo written; head -c 4 <&5';
    const attacker = host.container(script, (config) => {
      for (const namespace of config.linux.namespaces)
        if (namespace.type === 'pid') namespace.path = `/proc/${pid}/ns/pid`;
      for (const set of ['bounding', 'effective', 'permitted'] as const)
        config.process.capabilities?.[set]?.push('CAP_SYS_PTRACE', 'CAP_DAC_OVERRIDE');
    });
    const running = host.start(attacker.args('run'));
    await running.prints(/held/);
    await victim.ok('start');
    running.write('go\n'); // nobody executes it any more: from here on its seals alone protect it
    const { stdout, stderr } = await running.result;
    expect(stdout).toBe('/memfd:tsv-child (deleted)\nrefused\nheld\n/bin/busybox\n\x7fELF');
    expect(stderr).toContain('Operation not permitted');
    expect(victim.output).toBe('untouched\n');
    expect(await host.container('echo next').ok('run')).toBe('next\n');
    expect(hostPrograms()).toEqual(before);
  });
});

describe('S9 what is written to /proc', () => {
  /** A folder that looks like /proc, whose files are to stay as they are. */
  const fakeProc = (host: OciHost, folder = join(host.dir, 'fake')): string => {
    for (const file of fakeFiles) {
      mkdirSync(dirname(join(folder, file)), { recursive: true });
      writeFileSync(join(folder, file), 'fake');
    }
    return folder;
  };
  const fakeFiles = ['sys/kernel/msgmax', 'self/oom_score_adj', '1/oom_score_adj', 'self/attr/exec'];
  const bind = (destination: string, source: string) => ({ destination, type: 'bind', source, options: ['bind'] });

  const attacks: Record<string, (config: Draft, fake: string, box: Container) => void> = {
    'a bind in the place of /proc': (config, fake) => config.mounts.splice(0, 1, bind('/proc', fake)),
    'a bind over /proc': (config, fake) => config.mounts.push(bind('/proc', fake)),
    'an empty tmpfs over /proc': (config) =>
      config.mounts.push({ destination: '/proc', type: 'tmpfs', source: 'tmpfs' }),
    'a file over the setting': (config, fake) =>
      config.mounts.push(bind('/proc/sys/kernel/msgmax', join(fake, 'sys/kernel/msgmax'))),
    'a volume over /proc/sys': (config, fake) => config.mounts.push(bind('/proc/sys', join(fake, 'sys'))),
    'an image that brings its own /proc': (config, _, { host, rootfs }) => {
      config.mounts.splice(0, 1);
      fakeProc(host, join(rootfs, 'proc'));
    },
    'an image whose /proc leads elsewhere': (config, fake, { rootfs }) => {
      config.mounts.splice(0, 1);
      rmSync(join(rootfs, 'proc'), { recursive: true });
      symlinkSync(fake, join(rootfs, 'proc'));
    },
    'an image whose /proc/self leads elsewhere': (config, fake, { rootfs }) => {
      config.mounts.splice(0, 1);
      symlinkSync(join(fake, 'self'), join(rootfs, 'proc/self'));
      symlinkSync(join(fake, 'sys'), join(rootfs, 'proc/sys'));
    },
  };

  for (const [what, change] of Object.entries(attacks)) {
    looks(`S9 reaches the real one, whatever is in its place: ${what}`, async () => {
      const ofHost = readFileSync('/proc/sys/kernel/msgmax', 'utf8');
      const host = ociHost();
      const fake = fakeProc(host);
      const box = host.container('sleep 1000', (config, made) => {
        config.linux.sysctl = { 'kernel.msgmax': '12345' };
        config.process.oomScoreAdj = 321;
        change(config, fake, made);
      });
      await box.ok('run --detach');
      const pid = await box.pid();
      const { stdout } = await host.spawn(['nsenter', '-t', `${pid}`, '--ipc', 'cat', '/proc/sys/kernel/msgmax'])
        .result;
      expect(stdout).toBe('12345\n');
      expect(readFileSync(`/proc/${pid}/oom_score_adj`, 'utf8')).toBe('321\n');
      expect(readFileSync('/proc/sys/kernel/msgmax', 'utf8')).toBe(ofHost);
      for (const folder of [fake, join(box.rootfs, 'proc')])
        for (const file of fakeFiles)
          if (existsSync(join(folder, file))) expect(readFileSync(join(folder, file), 'utf8'), file).toBe('fake');
    });
  }

  looks('S9 has the offsets of a time namespace too', async (context) => {
    if (!existsSync('/proc/self/timens_offsets')) context.skip('this kernel has no time namespaces');
    const host = ociHost();
    const fake = join(fakeProc(host), 'self');
    writeFileSync(join(fake, 'timens_offsets'), 'fake');
    const box = host.container('sleep 1000', (config) => {
      config.linux.namespaces.push({ type: 'time' });
      config.linux.timeOffsets = { boottime: { secs: 1_000_000 } };
      config.mounts.splice(0, 1, bind('/proc', dirname(fake)));
    });
    await box.ok('run --detach');
    expect(readFileSync(`/proc/${await box.pid()}/timens_offsets`, 'utf8')).toMatch(/^boottime +1000000 +0$/m);
    expect(readFileSync(join(fake, 'timens_offsets'), 'utf8')).toBe('fake');
  });

  test('S9 is no label that goes to a file of the image: on a host without such a thing nothing starts', async (context) => {
    const enabled = '/sys/module/apparmor/parameters/enabled';
    if (existsSync(enabled) && readFileSync(enabled, 'utf8').startsWith('Y'))
      context.skip('this host has AppArmor, and knows no such profile');
    const host = ociHost();
    const fake = fakeProc(host);
    const box = host.container('sleep 1000', (config) => {
      config.process.apparmorProfile = 'unconfined';
      config.mounts.splice(0, 1, bind('/proc', fake));
    });
    expect((await box.call('run')).code).toBe(1);
    for (const file of fakeFiles) expect(readFileSync(join(fake, file), 'utf8')).toBe('fake');
    await host.expectNothingLeft();
  });
});

describe('S10 a volume that two containers share', () => {
  const swap = (first: string, second: string) => [
    'perl',
    '-e',
    // renameat2(AT_FDCWD, …, AT_FDCWD, …, RENAME_EXCHANGE)
    '$| = 1; my ($n, $a, $b) = (0, @ARGV); while (1) { syscall(316, -100, $a, -100, $b, 2) == 0 or die $!; ' +
      'print "$n\\n" if ++$n % 10000 == 0 }',
    first,
    second,
  ];
  const creations = 100;

  test('S10 S11 no mount, folder or node lands outside, while a folder and a link change places', async () => {
    const host = ociHost();
    const [volume, outside, source] = [join(host.dir, 'volume'), join(host.dir, 'outside'), join(host.dir, 'source')];
    for (const folder of [`${volume}/place`, outside, source]) mkdirSync(folder, { recursive: true });
    writeFileSync(join(outside, 'file'), 'mine');
    symlinkSync(outside, `${volume}/link`);
    const boxes = [1, 2].map(() =>
      host.container('cat /proc/self/mountinfo', (config, { rootfs }) => {
        mkdirSync(join(rootfs, outside), { recursive: true }); // where the link leads to inside
        config.mounts.push(
          { destination: '/volume', type: 'bind', source: volume, options: ['rbind'] },
          { destination: '/volume/place/a/b', type: 'tmpfs', source: 'landed-1' },
          { destination: '/volume/place/c', type: 'bind', source: source, options: ['rbind'] },
          { destination: '/volume/place', type: 'tmpfs', source: 'landed-2' },
        );
      }),
    );
    const swapping = host.spawn(swap(`${volume}/place`, `${volume}/link`));
    await swapping.prints(/10000/);
    const landed: string[] = [];
    const failed: string[] = [];
    await Promise.all(
      boxes.map(async (box) => {
        for (let round = 0; round < creations / boxes.length; round++) {
          const { code, stdout, stderr } = await box.call('run');
          if (code !== 0) failed.push(stderr);
          else {
            const lines = stdout.split('\n');
            const places = lines.flatMap((line) => {
              const [, , , root = '', point = ''] = line.split(' ');
              return / - tmpfs landed-\d/.test(line) || root === source || root.endsWith('/source') ? [point] : [];
            });
            expect(places, stdout).toHaveLength(3);
            landed.push(...places);
          }
        }
      }),
    );
    swapping.signal('SIGKILL');
    await swapping.result;
    // Inside, a link leads to a path of the container: both places were met, or this was no race.
    // (A folder that has been mounted on takes its mounts along when it is renamed.)
    const inside = (place: string) => landed.filter((point) => point.startsWith(place)).length;
    expect(inside('/volume/'), failed[0]).toBeGreaterThan(0);
    expect(inside(outside), failed[0]).toBeGreaterThan(0);
    expect(inside('/volume/') + inside(outside)).toBe(landed.length);
    for (const error of failed) expect(error).toMatch(/(EAGAIN|ENOENT|ENOTDIR|ELOOP|EXDEV|EBUSY|EINVAL)/);
    expect(readdirSync(outside)).toEqual(['file']);
    expect(readdirSync(source)).toEqual([]);
    expect(readFileSync(join(outside, 'file'), 'utf8')).toBe('mine');
  });
});

describe('S21 the state of a container', () => {
  manyUsers('S21 is closed to other users of the host, and so is its start', async () => {
    const host = ociHost();
    const box = host.container('echo started; exec sleep 1000');
    await host.spawn(['chmod', '755', host.dir]).result; // nothing above the state folder protects it
    await box.ok('create');
    const folder = join(host.root, box.id);
    expect(readdirSync(folder).sort()).toEqual(['result.fifo', 'start.fifo', 'state.json']);
    const asOther = (...argv: string[]) =>
      host.spawn(['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups', ...argv], { input: '' }).result;
    expect((await asOther('ls', host.dir)).code, 'as far as the state folder it may come').toBe(0);
    for (const command of [
      `ls ${host.root}`,
      `ls ${folder}`,
      `cat ${folder}/state.json`,
      `printf x >${folder}/start.fifo`,
      `cat ${folder}/result.fifo`,
      `ls /proc/${await box.pid()}/root/`,
      `ls /proc/${await box.pid()}/fd`,
    ]) {
      const { code, stdout, stderr } = await asOther('sh', '-c', command);
      expect([code !== 0, stdout], command).toEqual([true, '']);
      expect(stderr, command).toContain('ermission denied');
    }
    for (const command of ['start', 'state', 'kill', 'delete'])
      expect((await asOther(...host.argv([command, box.id]))).code, command).not.toBe(0);
    expect((await box.state()).status).toBe('created');
    expect(box.output).toBe('');
  });

  manyUsers('S21 is closed too where the folder for all states is open to others', async () => {
    const host = ociHost();
    await host.spawn(['chmod', '755', host.dir]).result;
    mkdirSync(host.root, { mode: 0o755 });
    const box = host.container('sleep 1000');
    await box.ok('create');
    const other = ['setpriv', '--reuid', '12345', '--regid', '12345', '--clear-groups'];
    const { code, stdout } = await host.spawn([...other, 'cat', join(host.root, box.id, 'state.json')]).result;
    expect([code, stdout]).toEqual([1, '']);
  });
});

describe('S25 sockets of a container', () => {
  test('S25 none of the runtime has a name that any process of its network could connect to', async () => {
    const host = ociHost();
    const abstract = (text: string) =>
      text.split('\n').flatMap((line) => {
        const name = line.trim().split(/\s+/)[7];
        return name?.startsWith('@') === true ? [name] : [];
      });
    const before = new Set(abstract(readFileSync('/proc/net/unix', 'utf8')));
    const box = host.container('sleep 1000');
    await box.ok('run --detach');
    const entering = host.start(box.args('exec', ['sh', '-c', 'echo entered; read line']));
    await entering.prints(/entered/);
    expect(abstract(readFileSync(`/proc/${await box.pid()}/net/unix`, 'utf8'))).toEqual([]);
    const mine = abstract(readFileSync('/proc/net/unix', 'utf8')).filter((name) => !before.has(name));
    expect(mine.filter((name) => /tsv|node|oci/.test(name))).toEqual([]);
    entering.write('\n');
    await entering.result;
  });
});

describe('S27 checkpoint and restore', () => {
  test.each(['checkpoint', 'restore'])('S27 %s is refused, whatever options it has', async (command) => {
    const host = ociHost();
    const box = host.container();
    await box.ok('run --detach');
    const images = join(host.dir, 'images');
    mkdirSync(images);
    writeFileSync(join(images, 'inventory.img'), 'img');
    for (const args of [
      [command, box.id],
      [command, '--image-path', images, box.id],
      [command, '--image-path', images, '--bundle', box.bundle, `${box.id}-new`],
      ['--criu', '/bin/true', command, box.id],
    ]) {
      const { code, stderr } = await host.oci(args);
      expect(code, args.join(' ')).not.toBe(0);
      expect(stderr).toContain(`${command} is not possible`);
    }
    expect((await host.oci(['list', '--quiet'])).stdout.trim()).toBe(box.id);
    expect((await box.state()).status).toBe('running');
    expect(readdirSync(images)).toEqual(['inventory.img']);
  });

  test('S27 no annotation of a bundle asks for one: nothing is restored, and no other program is run', async () => {
    const host = ociHost();
    const images = join(host.dir, 'images');
    mkdirSync(images);
    const called = join(host.dir, 'called');
    writeFileSync(join(host.dir, 'criu'), `#!/bin/sh\necho "$@" >>${called}\n`, { mode: 0o755 });
    const box = host.container('echo from the image', (config) => {
      config.annotations = {
        'io.kubernetes.cri-o.annotations.checkpoint.name': images,
        'org.criu.config': join(host.dir, 'criu.conf'),
        'run.oci.handler': 'krun',
        'io.podman.annotations.checkpoint': images,
        checkpoint: images,
      };
    });
    const path = `${host.dir}:${process.env.PATH ?? ''}`;
    const { code, stdout } = await box.callWith({ env: { PATH: path, CRIU: join(host.dir, 'criu') } }, 'run');
    expect([code, stdout]).toEqual([0, 'from the image\n']);
    expect(existsSync(called)).toBe(false);
    expect(readdirSync(images)).toEqual([]);
  });
});
