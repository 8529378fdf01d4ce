import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  copyFileSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readdirSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect } from 'vitest';
import type { ContainerDefaults } from '../../src/model/image.ts';
import { isolationOf, type Machine } from '../../src/model/project.ts';
import type { BoxRef } from '../../src/model/provider.ts';
import { setAttribute } from '../../src/sys/files.ts';
import { isAlive } from '../../src/sys/process.ts';
import { containerTests, type Lab } from '../support/containers.ts';
import { until } from '../support/until.ts';

const { test, lab } = containerTests(import.meta.filename);

const silent: ContainerDefaults = { env: [], exposedPorts: [], volumes: [], labels: {} };
/** Of a machine whose Tsfile says nothing that its image could say. */
const { user: _, stopSignal: __, workdir: ___, ...quiet } = { ...isolationOf({}), init: false };

/** A layer; the lowest one has busybox. */
function layer(of: Lab, name: string, make: (dir: string) => void = () => {}): string {
  const dir = join(of.folder, `layer-${name}`);
  mkdirSync(dir, { mode: 0o755 });
  make(dir);
  for (const entry of readdirSync(dir, { withFileTypes: true, recursive: true })) {
    const path = join(entry.parentPath, entry.name);
    const kept = entry.name.startsWith('owned-by-') ? Number(entry.name.slice('owned-by-'.length)) : 0;
    lchownSync(path, of.idOutside(kept), of.idOutside(kept));
  }
  lchownSync(dir, of.idOutside(0), of.idOutside(0));
  return dir;
}

const applets = [
  'sh',
  'cat',
  'ls',
  'sleep',
  'echo',
  'id',
  'touch',
  'stat',
  'readlink',
  'true',
  'pwd',
  'env',
  'rm',
  'setuidgid',
  'su',
];

const busybox = (dir: string): void => {
  for (const path of ['bin', 'etc', 'tmp']) mkdirSync(join(dir, path));
  copyFileSync('/bin/busybox', join(dir, 'bin/busybox'));
  for (const applet of applets) symlinkSync('busybox', join(dir, 'bin', applet));
};

const write = (dir: string, path: string, text: string): void => {
  mkdirSync(join(dir, path, '..'), { recursive: true });
  writeFileSync(join(dir, path), text);
};

/** As overlayfs has it for a name that is deleted. */
const whiteout = (path: string): void => void execFileSync('mknod', [path, 'c', '0', '0']);

/** From the lowest layer up, as images list them. */
const imageOf = (layers: readonly string[], defaults: Partial<ContainerDefaults> = {}): BoxRef => ({
  name: 'docker.io/library/test:latest',
  digest: 'none',
  layers: [...layers].reverse(),
  defaults: { ...silent, ...defaults },
  user: 'root',
});

const machine = (change: Partial<Machine> = {}): Partial<Machine> => ({
  box: 'docker.io/library/test:latest',
  image: {},
  isolation: quiet,
  ...change,
});

const sleeping = { entrypoint: ['sleep', '1000'] };

describe('layers of an image', () => {
  test('show what an upper one has changed, deleted and begun anew', async () => {
    const low = layer(lab(), 'show-low', (dir) => {
      busybox(dir);
      for (const path of ['kept', 'changed', 'deleted', 'folder/old', 'anew/old']) write(dir, path, 'low');
    });
    const high = layer(lab(), 'show-high', (dir) => {
      write(dir, 'changed', 'high');
      write(dir, 'anew/new', 'high');
      write(dir, 'folder/new', 'high');
      whiteout(join(dir, 'deleted'));
      expect(setAttribute(join(dir, 'anew'), 'user.overlay.opaque', Buffer.from('y'))).toBe(0);
    });
    const container = await lab().started({ machine: machine(), box: imageOf([low, high], sleeping) });
    expect(await container.sh('cat /kept /changed; echo; ls /folder /anew /deleted 2>&1')).toBe(
      'lowhigh\nls: /deleted: No such file or directory\n/anew:\nnew\n\n/folder:\nnew\nold',
    );
  });

  test('a user whom an upper layer has deleted is not there', async () => {
    const low = layer(lab(), 'user-low', (dir) => {
      busybox(dir);
      write(dir, 'etc/passwd', 'root:x:0:0::/:/bin/sh\ngone:x:7:7::/:/bin/sh\n');
    });
    const deleted = layer(lab(), 'user-deleted', (dir) => {
      mkdirSync(join(dir, 'etc'));
      whiteout(join(dir, 'etc/passwd'));
    });
    const anew = layer(lab(), 'user-anew', (dir) => {
      write(dir, 'etc/motd', 'hello');
      expect(setAttribute(join(dir, 'etc'), 'user.overlay.opaque', Buffer.from('y'))).toBe(0);
    });
    const as = { ...sleeping, user: 'gone' };
    expect((await lab().started({ machine: machine(), box: imageOf([low], as) })).pid).toBeGreaterThan(0);
    for (const upper of [deleted, anew]) {
      await expect(lab().started({ machine: machine(), box: imageOf([low, upper], as) })).rejects.toMatchObject({
        code: 'TSV_UNSUPPORTED',
        message: "the machine has no user 'gone'",
      });
    }
  });

  test('may be 127', async () => {
    const layers = Array.from({ length: 127 }, (_, i) =>
      layer(lab(), `many-${i}-${'of-a-long-name-'.repeat(4)}`, (dir) => {
        if (i === 0) busybox(dir);
        write(dir, `layer-${i}`, '');
        write(dir, 'top', `${i}`);
      }),
    );
    const container = await lab().started({ machine: machine(), box: imageOf(layers, sleeping) });
    expect(
      await container.sh(
        'ls / | cat | { n=0; while read -r x; do case $x in layer-*) n=$((n+1));; esac; done; echo $n; }; cat /top',
      ),
    ).toBe('127\n126');
    await container.stop(true);
    await container.start();
    expect(await container.sh('cat /top')).toBe('126');
  });

  test('are used as they are: a second container copies nothing', async () => {
    const base = layer(lab(), 'shared', busybox);
    const image = imageOf([base], sleeping);
    const [one, two] = [
      await lab().started({ machine: machine(), box: image }),
      await lab().started({ machine: machine(), box: image }),
    ];
    await one.sh('echo mine > /tmp/file');
    expect(await two.sh('ls /tmp')).toBe('');
    expect(readdirSync(two.upper).sort()).toEqual(['dev', 'etc', 'proc', 'sys']);
    expect(existsSync(join(base, 'tmp/file'))).toBe(false);
  });
});

describe('what an image says', () => {
  test('is what runs: entrypoint and command, variables, user, folder', async () => {
    const base = layer(lab(), 'says', (dir) => {
      busybox(dir);
      write(dir, 'etc/passwd', 'root:x:0:0::/root:/bin/sh\nweb:x:101:102::/home/web:/bin/sh\n');
      write(dir, 'etc/group', 'web:x:102:\nmore:x:103:web\n');
      write(dir, 'entry.sh', '#!/bin/sh\necho "$@"; id; pwd; echo $HOME $COLOUR $SIZE; exec sleep 1000\n');
      chmodSync(join(dir, 'entry.sh'), 0o755);
    });
    const box = imageOf([base], {
      entrypoint: ['/entry.sh', 'one'],
      cmd: ['two', 'three'],
      env: ['COLOUR=red', 'SIZE=small'],
      user: 'web',
      workdir: '/not/there',
    });
    const container = await lab().started({ machine: machine({ env: { COLOUR: 'blue' } }), box });
    await until('it has printed', () => container.log.includes('blue small'));
    expect(container.log).toBe(
      'one two three\nuid=101(web) gid=102(web) groups=102(web),103(more)\n/not/there\n/home/web blue small\n',
    );
  });

  test('gives way to the Tsfile: an entrypoint takes the command of the image along', async () => {
    const base = layer(lab(), 'gives-way', busybox);
    const box = imageOf([base], { entrypoint: ['false'], cmd: ['never'], workdir: '/', user: '7' });
    const isolation = { ...quiet, user: { user: 8, group: 9 }, workdir: '/tmp' };
    const command = ['sh', '-c', 'id -u; id -g; pwd; exec sleep 1000'];
    for (const how of [
      { entrypoint: [], command },
      { entrypoint: command },
      { entrypoint: command.slice(0, 1), command: command.slice(1) },
    ]) {
      const container = await lab().started({ machine: machine({ ...how, isolation }), box });
      await until('it has printed', () => container.log.endsWith('/tmp\n'));
      expect(container.log).toBe('8\n9\n/tmp\n');
    }
  });

  test('may be nothing at all: the small init runs', async () => {
    const base = layer(lab(), 'nothing', busybox);
    const container = await lab().started({ machine: machine(), box: imageOf([base]) });
    expect(await container.sh('readlink /proc/1/exe; cat /proc/1/comm')).toContain('tsv-init');
  });

  test('runs without a shell, without passwd, as a number, and says what a shell would be needed for', async () => {
    const bare = layer(lab(), 'bare', (dir) => {
      copyFileSync('/bin/busybox', join(dir, 'busybox'));
    });
    const box = imageOf([bare], { entrypoint: ['/busybox', 'sleep', '1000'], user: '1234:5678', workdir: '/work' });
    const container = await lab().started({ machine: machine(), box });
    const status = await container.exec(['/busybox', 'cat', '/proc/1/status']);
    expect(status.stdout).toMatch(/^Uid:\t1234\t1234/m);
    expect(status.stdout).toMatch(/^Gid:\t5678\t5678/m);
    await expect(container.exec(['sh', '-c', 'true'])).rejects.toMatchObject({
      code: 'TSV_COMMAND_NOT_FOUND',
      message: expect.stringContaining("has no command 'sh'"),
    });
  });

  test('is told when it has ended at once, with the last of what it printed', async () => {
    const base = layer(lab(), 'ends', busybox);
    const box = imageOf([base], { entrypoint: ['sh', '-c', 'echo no password given >&2; exit 3'] });
    const container = await lab().started({ machine: machine(), box });
    await until('it has ended', () => !isAlive(container.process));
    await expect(container.transport()).rejects.toMatchObject({
      code: 'TSV_NOT_RUNNING',
      message: expect.stringMatching(/has ended$/),
      details: ['no password given'],
    });
  });

  test('a user may listen on each port, as with Docker', async () => {
    const base = layer(lab(), 'ports', busybox);
    const container = await lab().started({ machine: machine(), box: imageOf([base], { ...sleeping, user: '1000' }) });
    expect(await container.sh('cat /proc/sys/net/ipv4/ip_unprivileged_port_start')).toBe('0');
  });
});

describe('the output of a container', () => {
  test('can be opened again by name, by every user that a process becomes, and nobody can cut it off', async () => {
    const base = layer(lab(), 'output', (dir) => {
      busybox(dir);
      write(dir, 'etc/passwd', 'root:x:0:0::/root:/bin/sh\nweb:x:101:102::/:/bin/sh\n');
      mkdirSync(join(dir, 'var/log'), { recursive: true });
      symlinkSync('/dev/stdout', join(dir, 'var/log/access.log'));
    });
    const script = `
      echo first
      echo root >/dev/stderr
      echo linked >>/var/log/access.log
      su web -c 'echo dropped >/dev/stdout; echo dropped too 2>&1 >/proc/self/fd/2'
      echo last
      exec sleep 1000`;
    const container = await lab().started({
      machine: machine(),
      box: imageOf([base], { entrypoint: ['sh', '-c', script] }),
    });
    await until('it has printed', () => container.log.endsWith('last\n'));
    expect(container.log).toBe('first\nroot\nlinked\ndropped\ndropped too\nlast\n');
    await container.stop(true);
    await container.start();
    await until('it has printed again', () =>
      container.log.endsWith('last\nfirst\nroot\nlinked\ndropped\ndropped too\nlast\n'),
    );
  });

  test('is kept while nobody reads it, and its keeper ends with it', async () => {
    const base = layer(lab(), 'keeper', busybox);
    const many = 'i=0; while [ $i -lt 20000 ]; do echo "line $i"; i=$((i+1)); done';
    const container = await lab().started({
      machine: machine(),
      box: imageOf([base], { entrypoint: ['sh', '-c', many] }),
    });
    await until('all is there', () => container.log.endsWith('line 19999\n'));
    expect(container.log.split('\n')).toHaveLength(20_001);
    await container.stop(true);
    const keepers = readdirSync('/proc').filter((pid) => /^\d+$/.test(pid) && commandOf(pid) === 'tsv-keeper');
    expect(keepers.filter((pid) => outputOf(pid).includes(container.context.dir))).toEqual([]);
  });
});

describe('a volume of an image', () => {
  const withData = (name: string): string =>
    layer(lab(), name, (dir) => {
      busybox(dir);
      mkdirSync(join(dir, 'data/owned-by-999'), { recursive: true });
      write(dir, 'data/owned-by-999/file', 'from the image');
      chmodSync(join(dir, 'data/owned-by-999'), 0o750);
      chmodSync(join(dir, 'data'), 0o1777);
      symlinkSync('data', join(dir, 'link'));
    });
  const look = 'stat -c "%u:%g %a" /data /data/owned-by-999; cat /data/owned-by-999/file';

  test('begins with what the image has there, owners and modes included', async () => {
    const box = imageOf([withData('volume-begins')], { ...sleeping, volumes: ['/data', '/new/place/'] });
    const container = await lab().started({ machine: machine(), box });
    expect(await container.sh(look)).toBe('0:0 1777\n999:999 750\nfrom the image');
    expect(await container.sh('stat -c "%u:%g %a" /new/place; touch /new/place/x && ls /new/place')).toBe('0:0 755\nx');
    expect(existsSync(join(container.upper, 'data'))).toBe(false);
  });

  test('is kept over restarts, and goes with the machine', async () => {
    const box = imageOf([withData('volume-kept')], { ...sleeping, volumes: ['/data'] });
    const container = await lab().started({ machine: machine(), box });
    const { dir } = container.context;
    await container.sh('echo mine > /data/mine; rm /data/owned-by-999/file');
    await container.stop(true);
    await container.start();
    expect(await container.sh('cat /data/mine; ls /data/owned-by-999')).toBe('mine');
    await lab().provider.destroy(container.context, { keepVolumes: true });
    expect(existsSync(join(dir, 'upper'))).toBe(false);
    await container.start();
    expect(await container.sh('cat /data/mine')).toBe('mine');
    await lab().provider.destroy(container.context);
    expect(readdirSync(dir)).toEqual([]);
  });

  test('is where a link of the image leads to, and nothing of a killed start counts', async () => {
    const box = imageOf([withData('volume-link')], { ...sleeping, volumes: ['/link/owned-by-999'] });
    const container = lab().container({ machine: machine(), box });
    const half = join(container.context.dir, 'volumes', '.new-abcdef');
    mkdirSync(half, { recursive: true });
    writeFileSync(join(half, 'file'), 'half');
    await container.start();
    expect(await container.sh('cat /link/owned-by-999/file /data/owned-by-999/file')).toBe(
      'from the imagefrom the image',
    );
    expect(existsSync(half)).toBe(false);
  });

  test('gives way to a share of the Tsfile at the same place', async () => {
    const own = join(lab().folder, 'own-data');
    mkdirSync(own);
    writeFileSync(join(own, 'file'), 'of the host');
    const shares = [{ host: own, guest: '/data', readonly: true }];
    const box = imageOf([withData('volume-share')], { ...sleeping, volumes: ['/data'] });
    const container = await lab().started({ machine: machine({ shares }), box });
    expect(await container.sh('cat /data/file')).toBe('of the host');
    expect(existsSync(join(container.context.dir, 'volumes'))).toBe(false);
  });

  test('that is a file of the image is refused, and leaves no half volume', async () => {
    const base = layer(lab(), 'volume-file', (dir) => {
      busybox(dir);
      write(dir, 'data', 'a file');
    });
    const container = lab().container({
      machine: machine(),
      box: imageOf([base], { ...sleeping, volumes: ['/data'] }),
    });
    await expect(container.start()).rejects.toMatchObject({ code: 'TSV_IMAGE' });
  });

  test('belongs to the ids of the container on the host', async () => {
    const container = await lab().started({
      machine: machine(),
      box: imageOf([withData('volume-ids')], { ...sleeping, volumes: ['/data'] }),
    });
    const folder = join(container.context.dir, 'volumes', 'data');
    expect(statSync(join(folder, 'owned-by-999')).uid).toBe(lab().idOutside(999));
  });
});

function commandOf(pid: string): string {
  try {
    return execFileSync('cat', [`/proc/${pid}/comm`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] }).trim();
  } catch {
    return '';
  }
}

function outputOf(pid: string): string {
  try {
    return execFileSync('readlink', [`/proc/${pid}/fd/1`], { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
  } catch {
    return '';
  }
}
