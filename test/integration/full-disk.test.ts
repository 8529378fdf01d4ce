import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statfsSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, type TestContext, test, vi } from 'vitest';
import { makeImage } from '../../providers/namespace/disk-image.ts';
import { snapshots } from '../../providers/namespace/snapshot.ts';
import { descriptorOf, filesOf } from '../support/content.ts';
import { fileServer, type Manners, someBytes } from '../support/file-server.ts';
import { buildIngest, startIngest } from '../support/ingest-process.ts';
import { type SmallDisk, smallDisk } from '../support/small-disk.ts';
import { container } from '../unit/plan/fixtures.ts';

/** A content store on a file system of 4 MiB that really fills up. */
const MiB = 1024 * 1024;
const file = someBytes(3 * MiB);
const descriptor = descriptorOf(file);
const partial = `partial/sha256-${descriptor.digest.slice(7)}`;

let folder: string;
let program: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'tsv-full-'));
  program = await buildIngest(folder);
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function ingest(disk: SmallDisk, url: string, wanted = descriptor) {
  mkdirSync(join(disk.path, 'images'), { recursive: true });
  return startIngest([...disk.enter, process.execPath, program], join(disk.inside, 'images'), url, wanted);
}

/** Takes all room but `left` bytes. */
function fill(disk: SmallDisk, left: number): void {
  const { bavail, bsize } = statfsSync(disk.path);
  const fd = openSync(join(disk.path, 'filler'), 'w');
  writeSync(fd, Buffer.alloc(bavail * bsize - left));
  closeSync(fd);
}

describe('a full disk', () => {
  test('is told before a download that cannot fit', async (context) => {
    const disk = await smallDisk(context, folder, 4);
    const server = await fileServer(file);
    fill(disk, 1 * MiB);
    const { ended } = await ingest(disk, server.url);
    expect(await ended).toMatch(/^TSV_STORE there is no room for .*it needs 3072 KiB.*\d+ KiB free/);
    expect(server.requests).toEqual([]);
    expect(filesOf(join(disk.path, 'images'))).toEqual([]);
  });

  /** Fills the disk when 1 MiB has come, and then lets the rest come. */
  async function fillsMeanwhile(context: TestContext, manners: Manners) {
    const disk = await smallDisk(context, folder, 4);
    const server = await fileServer(file, {
      ...manners,
      dropAfter: (index) => (index === 0 ? 1.5 * MiB : undefined),
      status: (index) => {
        if (index === 1) fill(disk, 512 * 1024);
        return undefined;
      },
    });
    const { ended } = await ingest(disk, server.url);
    return { disk, server, last: await ended };
  }

  test('in the middle of a download is told, and what has come is gone on with when there is room', async (context) => {
    const { disk, server, last } = await fillsMeanwhile(context, {});
    expect(last).toMatch(/^TSV_STORE the blob sha256:\w+ could not be stored: the disk is full .*KiB free/);
    expect(filesOf(join(disk.path, 'images'))).toEqual([partial, `${partial}.json`]);
    rmSync(join(disk.path, 'filler'));
    const before = server.requests.length;
    const again = await ingest(disk, server.url);
    expect(await again.ended).toBe('done');
    expect(server.requests).toHaveLength(before + 1);
    expect(server.requests[before]?.headers.range).toMatch(/^bytes=[1-9]\d*-$/);
    expect(readFileSync(join(disk.path, 'images/blobs/sha256', descriptor.digest.slice(7))).equals(file)).toBe(true);
  });

  test('in the middle of a download from a server without ranges leaves nothing', async (context) => {
    const { disk, last } = await fillsMeanwhile(context, { ranges: () => false });
    expect(last).toMatch(/^TSV_STORE .*the disk is full/);
    expect(filesOf(join(disk.path, 'images'))).toEqual([]);
    expect(readdirSync(join(disk.path, 'images/blobs/sha256'))).toEqual([]);
  });

  test('that shows only when the last bytes are written leaves nothing either', async (context) => {
    const disk = await smallDisk(context, folder, 4);
    const small = file.subarray(0, 600 * 1024); // less than what is written at a time
    const server = await fileServer(small, {
      ranges: () => false,
      status: (index) => {
        if (index > 0) return undefined;
        fill(disk, 100 * 1024);
        return { status: 503 };
      },
    });
    const { ended } = await ingest(disk, server.url, descriptorOf(small));
    expect(await ended).toMatch(/^TSV_STORE .*the disk is full/);
    expect(filesOf(join(disk.path, 'images'))).toEqual([]);
  });

  test("that has no room for a container's disk is told with its path, and no half of one is left", async (context) => {
    const disk = await smallDisk(context, folder, 4);
    fill(disk, 64 * 1024);
    const file = join(disk.path, 'disks/data.img');
    vi.stubEnv('PATH', `${process.env.PATH}:/usr/sbin:/sbin`); // an ordinary user's lacks them, the agent's does not
    onTestFinished(() => void vi.unstubAllEnvs());
    const image = { file, words: 'web: its disk data', sizeBytes: 64 * MiB, owner: { uid: 0, gid: 0 } };
    await expect(makeImage(image)).rejects.toMatchObject({
      code: 'TSV_CONTAINER_START',
      message: 'web: its disk data could not be made',
      details: [expect.stringContaining(file), expect.anything()],
      hint: `look at the free space with: df -h ${join(disk.path, 'disks')}`,
    });
    expect(readdirSync(join(disk.path, 'disks'))).toEqual([]);
    rmSync(join(disk.path, 'filler'));
    await makeImage(image);
    expect(readdirSync(join(disk.path, 'disks'))).toEqual(['data.img']);
  });

  test('in the middle of a snapshot of a container is told, and what was copied goes', async (context) => {
    const disk = await smallDisk(context, folder, 4);
    const web = { dir: disk.path, machine: container('web') };
    const upper = join(disk.path, 'upper');
    mkdirSync(upper);
    writeFileSync(join(upper, 'file'), file);
    const saving = snapshots.save(web, 'tsv-1', new AbortController().signal);
    await expect(saving).rejects.toMatchObject({
      code: 'TSV_SNAPSHOT',
      message: 'web: its files could not be saved',
      details: expect.arrayContaining([expect.stringMatching(/No space left on device/)]),
    });
    expect(await snapshots.tags(web)).toEqual(['tsv-1']);
    await snapshots.delete(web, 'tsv-1');
    expect(await snapshots.tags(web)).toEqual([]);
    expect(readFileSync(join(upper, 'file')).equals(file)).toBe(true);
    await expect(snapshots.problem(web, { tag: 'tsv-1' })).resolves.toMatch(/not there any more/);
  });
});
