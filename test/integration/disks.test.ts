import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, onTestFinished, type TestContext } from 'vitest';
import { type Disk, type Isolation, isolationOf } from '../../src/model/project.ts';
import { diskImage } from '../../src/state/paths.ts';
import { signalProcess, waitExit } from '../../src/sys/children.ts';
import { loopOf } from '../../src/sys/loop.ts';
import { type Container, containerTests, skip } from '../support/containers.ts';
import { isRoot } from '../support/root.ts';
import { until } from '../support/until.ts';

const { test: plainTest, lab } = containerTests(import.meta.filename);

/** Disks need loop devices: the tests of others are those of test/e2e/disks.test.ts and test/unit/app/host.test.ts. */
const test = (name: string, work: (context: TestContext) => Promise<void>) =>
  plainTest(name, (context) => (isRoot && lab().map.rooted ? work(context) : skip(context, 'loop devices need root')));

const MiB = 2 ** 20;
const data = (change: Partial<Disk> = {}): Disk => ({ name: 'data', sizeBytes: 32 * MiB, mount: '/data', ...change });

const withDisks = (name: string, disks: readonly Disk[], isolation: Partial<Isolation> = {}): Container =>
  lab().container({ machine: { name, disks, isolation: { ...isolationOf({}), ...isolation } } });

async function started(...args: Parameters<typeof withDisks>): Promise<Container> {
  const container = withDisks(...args);
  await container.start();
  return container;
}

const imageOf = ({ context }: Container, disk: Disk = data()): string => diskImage(context.dir, disk);
/** What a file system of the disk's type and size says of itself: its type, and its size in MiB. */
async function fileSystem(container: Container, path = '/data'): Promise<[type: string, sizeMiB: number]> {
  const [type = '', blocks = '0', size = '0'] = (await container.sh(`stat -f -c '%T %b %S' ${path}`)).split(' ');
  return [type, Math.round((Number(blocks) * Number(size)) / MiB)];
}
const goesFree = (file: string) => until(`no loop device shows ${file}`, () => loopOf(file) === undefined);

describe('a disk', () => {
  test('is a file system of its own size, seen in its container alone', async () => {
    const a = await started('own-a', [data(), data({ name: 'log', sizeBytes: 8 * MiB, mount: '/var/log/deep' })]);
    const b = await started('own-b', [data({ sizeBytes: 256 * MiB })]);
    await a.sh('echo of-a >/data/file; echo log >/var/log/deep/file');
    expect(await b.sh('ls -A /data')).toBe('lost+found');
    const [[typeA, sizeA], [typeB, sizeB]] = [await fileSystem(a), await fileSystem(b)];
    expect([typeA, typeB]).toEqual(['ext2/ext3', 'ext2/ext3']);
    expect(sizeA).toBeGreaterThan(20);
    expect(sizeA).toBeLessThanOrEqual(32);
    expect(sizeB).toBeGreaterThan(220);
    expect(sizeB).toBeLessThanOrEqual(256);
    expect(await a.sh("grep ' /data ' /proc/self/mountinfo")).toMatch(
      / \/data rw,nosuid,nodev,relatime,idmapped - ext4 \/dev\/loop\d+ /,
    );
    for (const container of [a, b]) {
      expect(readFileSync('/proc/self/mountinfo', 'utf8')).not.toContain(container.context.dir);
      expect(loopOf(imageOf(container))).toMatch(/^\/dev\/loop\d+$/);
      // It is only as large as what is in it.
      expect(statSync(imageOf(container)).blocks * 512).toBeLessThan(16 * MiB);
    }
  });

  test('takes room on the host for what is in it, and gives it back', async () => {
    const container = await started('room', [data()]);
    const used = (): number => statSync(imageOf(container)).blocks * 512;
    await container.sh('head -c 16M /dev/urandom >/data/file; sync /data/file');
    expect(used()).toBeGreaterThan(16 * MiB);
    await container.sh('rm /data/file; sync -f /data');
    await until('the room is free', () => used() < 8 * MiB);
  });

  test("belongs to the container's user, by the container's ids, also in the image", async () => {
    const container = await started('owner', [data(), data({ name: 'log', mount: '/log' })], {
      user: { user: 1234, group: 56 },
    });
    expect(await container.sh('stat -c "%u:%g %a" /data /log')).toBe('1234:56 755\n1234:56 755');
    await container.sh('touch /data/root; touch /data/other; chown 7:8 /data/other');
    expect(await container.sh('stat -c "%u:%g" /data/root /data/other')).toBe('0:0\n7:8');
    await container.stop(true);
    await goesFree(imageOf(container));
    const inside = execFileSync('debugfs', ['-R', 'ls -l /', imageOf(container)], {
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    expect(inside).toMatch(/^ *\d+ +100644 \(1\) +0 +0 .* root$/m);
    expect(inside).toMatch(/^ *\d+ +100644 \(1\) +7 +8 .* other$/m);
  });

  test('outlives a stop, a kill, and being made anew, and goes with the container', async () => {
    const container = await started('lives', [data()]);
    const file = imageOf(container);
    await container.sh('echo 1 >/data/file; sync /data/file');
    await container.stop();
    await goesFree(file);
    await container.start();
    await container.sh('echo 2 >>/data/file');
    const gone = waitExit(container.pid);
    signalProcess(container.process, 9);
    await gone;
    await lab().provider.ending(container.context);
    await container.start();
    await container.sh('echo 3 >>/data/file');
    await lab().provider.destroy(container.context, { keepDisks: true });
    expect(readdirSync(container.context.dir)).toEqual(['disks']);
    await container.start();
    expect(await container.sh('cat /data/file')).toBe('1\n2\n3');
    await container.destroy();
    await goesFree(file);
    expect(existsSync(file)).toBe(false);
  });

  test('has what was synced before the host lost power', async () => {
    const container = await started('power', [data()]);
    const file = imageOf(container);
    await container.sh('echo synced >/data/file; sync /data/file');
    copyFileSync(file, `${file}.then`);
    await container.stop(true);
    await goesFree(file);
    renameSync(`${file}.then`, file);
    await container.start();
    expect(await container.sh('cat /data/file')).toBe('synced');
  });

  test('waits for who still has its last file system in use', async () => {
    const container = await started('waits', [data()]);
    await container.sh('echo 1 >/data/file');
    const user = openSync(`/proc/${container.pid}/root/data/file`, 'r');
    await container.stop(true);
    const image = imageOf(container);
    expect(loopOf(image)).toBeDefined();
    let isStarted = false;
    const starting = container.start().then(() => {
      isStarted = true;
    });
    // As long as its other work takes at least: making and starting another container.
    const other = await started('waits-not', []);
    await other.destroy();
    expect(isStarted).toBe(false);
    closeSync(user);
    await starting;
    expect(await container.sh('cat /data/file')).toBe('1');
  });

  test('that is no disk is told, and stays as it is', async () => {
    const container = withDisks('foreign', [data()]);
    const file = imageOf(container);
    mkdirSync(dirname(file), { recursive: true });
    const garbage = Buffer.alloc(32 * MiB, 'garbage ');
    writeFileSync(file, garbage, { mode: 0o600 });
    await expect(container.start()).rejects.toMatchObject({
      code: 'TSV_CONTAINER_START',
      message: 'foreign: its disk data is not used: it has no ext4 file system',
      details: [file],
    });
    expect(readFileSync(file).equals(garbage)).toBe(true);
    expect(loopOf(file)).toBeUndefined();
    expect(lab().cgroupFolders('foreign')).toEqual([]);
  });

  test('whose image others may write or read is not mounted: it may have come with the folder', async () => {
    const container = await started('stranger', [data()]);
    const file = imageOf(container);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    await container.stop(true);
    chmodSync(file, 0o644);
    await expect(container.start()).rejects.toMatchObject({
      code: 'TSV_CONTAINER_START',
      message: 'stranger: its disk data is not used: others could have made it',
      hint: expect.stringContaining(`chmod 600 ${file}`),
    });
    chmodSync(file, 0o600);
    await container.start();
  });

  test('that somebody else has as a loop device is not mounted twice', async () => {
    const container = await started('taken', [data()]);
    const file = imageOf(container);
    await container.stop(true);
    await goesFree(file);
    const device = execFileSync('losetup', ['--find', '--show', file], { encoding: 'utf8' }).trim();
    try {
      await expect(container.start()).rejects.toMatchObject({
        message: 'taken: its disk data is in use',
        details: [`${file} is ${device}, which tsv has not made`],
      });
    } finally {
      execFileSync('losetup', ['--detach', device]);
    }
    await goesFree(file);
    await container.start();
  });

  test('with errors beyond repair is told with what e2fsck says', async () => {
    const container = await started('broken', [data()]);
    const file = imageOf(container);
    await container.stop(true);
    await goesFree(file);
    const image = openSync(file, 'r+');
    writeSync(image, Buffer.alloc(4), 0, 4, 1024); // the superblock's count of inodes: its checksum does not fit any more
    closeSync(image);
    await expect(container.start()).rejects.toMatchObject({
      code: 'TSV_CONTAINER_START',
      message: 'broken: its disk data has errors that only you can mend',
      hint: expect.stringContaining(`e2fsck -f ${file}`),
    });
  });
});

describe('a size', () => {
  test('that is larger makes the disk grow at the next start, with what is in it', async () => {
    const small = await started('grows', [data({ sizeBytes: 16 * MiB })]);
    await small.sh('head -c 4M /dev/urandom >/data/file; sha256sum /data/file >/data/sum');
    await small.stop();
    const large = await started('grows', [data({ sizeBytes: 1024 * MiB })]);
    expect(await fileSystem(large)).toEqual(['ext2/ext3', expect.closeTo(1000, -2)]);
    expect(await large.sh('sha256sum --check --quiet /data/sum && echo same')).toBe('same');
    expect(large.notices).toEqual([]);
    await large.stop();
    expect(readdirSync(dirname(imageOf(large)))).toEqual(['data.img']);
  });

  test('is reached by a start after one that was ended in the middle of growing, or of making', async () => {
    const container = withDisks('crash', [data({ sizeBytes: 128 * MiB })]);
    const file = imageOf(container);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(`${file}.new`, 'the first half of a disk');
    await container.start();
    expect(readdirSync(dirname(file))).toEqual(['data.img']);
    await container.sh('echo kept >/data/file');
    await container.stop();
    await goesFree(file);
    // As resize2fs finds it: the file has grown, the file system has not.
    truncateSync(file, 512 * MiB);
    writeFileSync(`${file}.growing`, '');
    const grown = await started('crash', [data({ sizeBytes: 512 * MiB })]);
    expect((await fileSystem(grown))[1]).toBeGreaterThan(450);
    expect(await grown.sh('cat /data/file')).toBe('kept');
    expect(existsSync(`${file}.growing`)).toBe(false);
  });

  test('that is smaller than the image is refused, and nothing is changed', async () => {
    const container = await started('shrinks', [data()]);
    await container.stop(true);
    const file = imageOf(container);
    await expect(started('shrinks', [data({ sizeBytes: 16 * MiB })])).rejects.toMatchObject({
      code: 'TSV_UNSUPPORTED',
      message: 'shrinks: its disk data cannot become smaller',
      details: [`${file} has 32M, and the Tsfile says 16M`],
    });
    expect(statSync(file).size).toBe(32 * MiB);
    await container.start();
  });
});

describe('a disk that is kept', () => {
  test('stays when its container is destroyed, and the next one of that name has it again', async () => {
    const kept = data({ keep: true });
    const first = await started('keeps', [kept, data({ name: 'other', mount: '/other' })]);
    const file = imageOf(first, kept);
    expect(file).toBe(join(lab().folder, 'disks/keeps/data.img'));
    onTestFinished(() => lab().provider.destroy(first.context));
    await first.sh('echo kept >/data/file');
    writeFileSync(`${file}.new`, 'the first half of a disk');
    await first.destroy();
    expect(existsSync(first.context.dir)).toBe(false);
    expect(readdirSync(dirname(file))).toEqual(['data.img']);
    const second = await started('keeps', [kept]);
    expect(await second.sh('cat /data/file')).toBe('kept');
    await second.destroy();
    // Without `keep` it is the next container's own, and goes with it.
    const third = await started('keeps', [data()]);
    expect(await third.sh('cat /data/file')).toBe('kept');
    expect(existsSync(file)).toBe(false);
    await third.destroy();
    await goesFree(imageOf(third));
  });

  test('takes its place while it grows', async () => {
    const container = await started('moves', [data()]);
    await container.stop(true);
    await goesFree(imageOf(container));
    truncateSync(imageOf(container), 64 * MiB);
    writeFileSync(`${imageOf(container)}.growing`, '');
    const kept = data({ keep: true, sizeBytes: 64 * MiB });
    const moved = await started('moves', [kept]);
    expect((await fileSystem(moved))[1]).toBeGreaterThan(50);
    expect(readdirSync(dirname(imageOf(moved, kept)))).toEqual(['data.img']);
    await moved.destroy();
  });
});
