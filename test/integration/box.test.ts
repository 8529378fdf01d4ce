import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { BoxRef } from '../../src/model/provider.ts';
import { type BoxKind, ensureBox, listBoxes, removeTree } from '../../src/store/box/index.ts';
import { mustRun } from '../../src/sys/command.ts';
import { readUserMap, withUserNamespace } from '../../src/sys/userns.ts';

const map = readUserMap();
const boxesDir = resolve(import.meta.dirname, '../../boxes');
/** Kept from run to run: a box is built once. */
const store = process.env.TSV_TEST_STORE ?? join(homedir(), '.cache/ts-vm-test');
const minutes = 60_000;
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const never = new AbortController().signal;
const build = (kind: BoxKind) =>
  ensureBox({ boxesDir, store, name: 'debian-12', kind, map, signal: never, progress: () => {} });

/** Output of a command that runs as the namespace's root, in a folder. */
const inside = (cwd: string, ...argv: string[]): Promise<string> =>
  withUserNamespace(map, async (prefix) => {
    const words = prefix.filter((word) => word !== '--mount'); // keeps the working directory
    return (await mustRun([...words, ...argv], { code: 'TSV_INTERNAL', message: argv.join(' ') }, { cwd, env })).stdout;
  });

describe('the container part of debian-12', () => {
  let rootfs: string;
  beforeAll(async () => {
    rootfs = (await build('container')).layers?.[0] ?? '';
  }, 10 * minutes);

  it('belongs to the ids of the sandbox, with none that have no name', async () => {
    expect(await inside(rootfs, 'stat', '-c', '%u:%g', 'etc/passwd', 'home/tsv')).toBe('0:0\n1000:1000\n');
    expect(await inside(rootfs, 'find', '.', '-xdev', '(', '-uid', '65534', '-o', '-gid', '65534', ')')).toBe('');
  });

  it('holds no device, socket or fifo, and nothing in dev, proc and sys', async () => {
    expect(
      await inside(
        rootfs,
        'find',
        '.',
        '-xdev',
        '(',
        '-type',
        'b',
        '-o',
        '-type',
        'c',
        '-o',
        '-type',
        's',
        '-o',
        '-type',
        'p',
        ')',
      ),
    ).toBe('');
    expect(await inside(rootfs, 'find', 'dev', 'proc', 'sys', '-mindepth', '1')).toBe('');
  });

  it('holds no identity: no machine-id, no host keys, no password', async () => {
    expect(await inside(rootfs, 'stat', '-c', '%s', 'etc/machine-id')).toBe('0\n');
    expect(
      await inside(
        rootfs,
        'find',
        'etc',
        'root',
        'home',
        '-name',
        '*_key',
        '-o',
        '-name',
        'authorized_keys',
        '-o',
        '-name',
        'id_*',
      ),
    ).toBe('');
    const shadow = await inside(rootfs, 'cat', 'etc/shadow');
    expect(shadow.split('\n').filter((line) => line.split(':')[1]?.startsWith('$'))).toEqual([]);
    expect(shadow).toMatch(/^root:\*:/m);
  });

  it('has what makes a machine usable, and no sshd', async () => {
    await inside(
      rootfs,
      'test',
      '-x',
      'usr/lib/openssh/sftp-server',
      '-a',
      '-x',
      'usr/bin/rsync',
      '-a',
      '-x',
      'usr/bin/sudo',
      '-a',
      '-x',
      'usr/bin/curl',
    );
    await inside(rootfs, 'test', '!', '-e', 'usr/sbin/sshd');
    expect(await inside(rootfs, 'stat', '-c', '%a', 'etc/sudoers.d/tsv')).toBe('440\n');
  });

  it('keeps the package lists, so that apt-get install works at once', async () => {
    const files = await inside(rootfs, 'find', 'var/lib/apt/lists', 'var/cache/apt', '-type', 'f', '-size', '+100k');
    expect(files).toMatch(/_main_binary-[a-z0-9]+_Packages$/m);
    expect(files).toContain('var/cache/apt/pkgcache.bin');
  });

  it('is listed as built, with its size', async () => {
    const box = (await listBoxes(boxesDir, store, map)).find(({ name }) => name === 'debian-12');
    const part = box?.parts.find(({ kind }) => kind === 'container');
    expect(part).toMatchObject({ built: true });
    expect(part?.bytes).toBeGreaterThan(100 * 2 ** 20);
  });
});

describe('the VM part of debian-12', () => {
  let box: BoxRef;
  beforeAll(async () => {
    box = await build('vm');
  }, 10 * minutes);

  /** A program that reads the disk as it is, without mounting it. */
  const onDisk = async (...argv: string[]) =>
    (await mustRun([...argv, box.disk?.path ?? ''], { code: 'TSV_INTERNAL', message: argv.join(' ') }, { env })).stdout;
  const debugfs = (request: string) => onDisk('debugfs', '-R', request);

  it('has a kernel, an initrd and a frozen disk', () => {
    for (const path of [box.kernel, box.initrd, box.disk?.path]) expect(statSync(path ?? '').mode & 0o777).toBe(0o444);
    expect(
      readFileSync(box.kernel ?? '')
        .subarray(0x202, 0x206)
        .toString(),
    ).toBe('HdrS'); // Linux x86 boot protocol
    expect(
      readFileSync(box.initrd ?? '')
        .subarray(0, 6)
        .toString(),
    ).toBe('070701'); // cpio, newc
    expect(statSync(box.disk?.path ?? '').size).toBe(box.disk?.virtualBytes);
    expect(box.cmdline).toContain('root=/dev/vda');
  });

  it('has a clean file system whose files belong to root', async () => {
    await onDisk('e2fsck', '-n', '-f');
    expect(await debugfs('stat /etc/passwd')).toMatch(/User: +0 +Group: +0/);
    expect(await debugfs('stat /home/tsv')).toMatch(/User: +1000 +Group: +1000/);
  });

  it('has an sshd that starts by itself, and no keys', async () => {
    expect(await debugfs('stat /usr/sbin/sshd')).toContain('Type: regular');
    expect(await debugfs('ls -p /etc/systemd/system/sysinit.target.wants')).toContain('/ssh.service/');
    expect(await debugfs('ls -p /etc/ssh')).not.toContain('ssh_host');
    expect(await debugfs('ls -p /root/.ssh')).not.toContain('authorized_keys');
    expect(await debugfs('stat /etc/machine-id')).toMatch(/Size: 0\b/);
  });
});

describe('a build', () => {
  let dir: string;
  let recipe: string;
  const ensure = (signal = never, progress: (text: string) => void = () => {}) =>
    ensureBox({
      boxesDir: join(dir, 'boxes'),
      store: join(dir, 'store'),
      name: 'tiny',
      kind: 'container',
      map,
      signal,
      progress,
    });
  const left = () =>
    readdirSync(join(dir, 'store/boxes/tiny')).filter((name) => !name.startsWith('.lock-') && !name.endsWith('.log'));
  const describeBox = (packages: string) =>
    writeFileSync(
      join(recipe, 'box.yaml'),
      `version: 1\ndescription: tiny\nsuite: bookworm\nuser: nobody\ncontainer: { packages: [${packages}] }\n`,
    );

  beforeAll(() => {
    dir = mkdtempSync(join(process.env.TSV_TEST_TMP ?? tmpdir(), 'tsv-box-'));
    recipe = join(dir, 'boxes/tiny');
    mkdirSync(recipe, { recursive: true });
    mkdirSync(join(recipe, 'container'));
    cpSync(join(boxesDir, 'debian-12/container/dpkg.cfg'), join(recipe, 'container/dpkg.cfg'));
  });
  afterAll(() => removeTree(dir, map));

  it(
    'that fails says why in the words of apt, and leaves nothing',
    async () => {
      describeBox('no-such-package');
      const error = await ensure().catch((e: unknown) => e);
      expect(error).toMatchObject({ code: 'TSV_BOX_BUILD', hint: expect.stringContaining('container.log') });
      expect((error as { details: string[] }).details.join('\n')).toContain('Unable to locate package no-such-package');
      expect(left()).toEqual([]);
    },
    2 * minutes,
  );

  it(
    'that is interrupted ends its programs and leaves nothing',
    async () => {
      describeBox('less');
      const controller = new AbortController();
      await expect(ensure(controller.signal, () => controller.abort())).rejects.toMatchObject({
        code: 'TSV_CANCELLED',
        exitCode: 130,
      });
      expect(left()).toEqual([]);
    },
    2 * minutes,
  );

  it(
    'happens once however many ask, and removes what a killed one left',
    async () => {
      describeBox('less');
      const [part] = (await listBoxes(join(dir, 'boxes'), join(dir, 'store'), map))[0]?.parts ?? [];
      expect(part?.built).toBe(false);
      const rest = join(dir, 'store/boxes/tiny', `.building-container-${part?.digest.slice(0, 16)}.killed`);
      mkdirSync(join(rest, 'rootfs'), { recursive: true });
      const told: string[] = [];
      const [one, two] = await Promise.all([
        ensure(never, (text) => told.push(text)),
        ensure(never, (text) => told.push(text)),
      ]);
      expect(one).toEqual(two);
      expect(told.filter((text) => text.includes('waiting'))).toHaveLength(1);
      expect(left()).toEqual([`container-${part?.digest.slice(0, 16)}`]);
      await removeTree(join(dir, 'store/boxes/tiny', left()[0] ?? ''), map);
      expect(left()).toEqual([]);
      rmSync(join(dir, 'store'), { recursive: true });
    },
    5 * minutes,
  );
});
