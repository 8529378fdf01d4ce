import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import type { Descriptor } from '../../../../src/model/image.ts';
import { ContentStore } from '../../../../src/store/content/store.ts';
import { localFile } from '../../../../src/store/download/local.ts';
import {
  descriptorOf,
  emptyStore,
  filesOf,
  httpClient,
  impatient,
  never,
  RecordingTap,
  temporaryFolder,
} from '../../../support/content.ts';
import { fileServer, someBytes } from '../../../support/file-server.ts';
import { httpFile } from '../../../support/http-file.ts';

const quiet = { signal: never, progress: () => {} };

/** Changes one bit of a blob on the disk. */
function flipBit(path: string, at: number): void {
  chmodSync(path, 0o600);
  const fd = openSync(path, 'r+');
  const byte = readFileSync(path)[at] ?? 0;
  writeSync(fd, Buffer.from([byte ^ 4]), 0, 1, at);
  closeSync(fd);
}

async function allOf(chunks: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const chunk of chunks) all.push(chunk);
  return Buffer.concat(all);
}

describe('a content store', () => {
  test('is an OCI image layout that only its user may enter', () => {
    const { folder } = emptyStore();
    expect(JSON.parse(readFileSync(join(folder, 'oci-layout'), 'utf8'))).toEqual({ imageLayoutVersion: '1.0.0' });
    expect(JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8'))).toMatchObject({
      schemaVersion: 2,
      manifests: [],
    });
    expect(statSync(folder).mode & 0o777).toBe(0o700);
    expect(filesOf(folder)).toEqual([]);
  });

  test('that is there keeps its index, and is closed to others if it was not', () => {
    const { folder } = emptyStore();
    writeFileSync(join(folder, 'index.json'), '{"mine":true}');
    chmodSync(folder, 0o755);
    ContentStore.open(folder);
    expect(readFileSync(join(folder, 'index.json'), 'utf8')).toBe('{"mine":true}');
    expect(statSync(folder).mode & 0o777).toBe(0o700);
  });

  test('that cannot be made says why', () => {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, '');
    expect(() => ContentStore.open(path)).toThrow(expect.objectContaining({ code: 'TSV_STORE' }));
  });

  test('gives back what was put in, by digest', () => {
    const { store, files } = emptyStore();
    const text = Buffer.from('{"config":true}');
    const descriptor = store.put(text, 'application/json');
    expect(descriptor).toEqual({ ...descriptorOf(text), mediaType: 'application/json' });
    expect(store.read(descriptor).equals(text)).toBe(true);
    expect(store.put(text, 'application/json')).toEqual(descriptor);
    expect(files()).toEqual([`blobs/sha256/${descriptor.digest.slice(7)}`]);
    expect(store.list()).toEqual([{ digest: descriptor.digest, bytes: text.length }]);
    expect(statSync(store.path(descriptor.digest)).mode & 0o777).toBe(0o400);
  });

  test('takes sha512 as well, and empty blobs', async () => {
    const { store } = emptyStore();
    for (const [bytes, algorithm] of [[someBytes(1000), 'sha512'] as const, [Buffer.alloc(0), 'sha256'] as const]) {
      const path = join(temporaryFolder(), 'file');
      writeFileSync(path, bytes);
      const descriptor = descriptorOf(bytes, algorithm);
      await store.ingest(descriptor, localFile(path), quiet);
      expect(store.has(descriptor)).toBe(true);
      expect(store.read(descriptor).equals(bytes)).toBe(true);
    }
    expect(store.list()).toHaveLength(2);
  });

  test('says that it does not have a blob, and removes one that is gone without an error', async () => {
    const { store } = emptyStore();
    const descriptor = descriptorOf(Buffer.from('x'));
    expect(store.has(descriptor)).toBe(false);
    expect(() => store.read(descriptor)).toThrow(expect.objectContaining({ code: 'TSV_STORE' }));
    await expect(allOf(store.stream(descriptor))).rejects.toMatchObject({ code: 'TSV_STORE' });
    store.remove(descriptor.digest);
    store.remove(store.put(Buffer.from('x'), 'x').digest);
    expect(store.list()).toEqual([]);
  });

  test('follows no link out of itself', async () => {
    const { store } = emptyStore();
    const secret = Buffer.from('secret');
    const path = join(temporaryFolder(), 'secret');
    writeFileSync(path, secret);
    const descriptor = descriptorOf(secret);
    symlinkSync(path, store.path(descriptor.digest));
    expect(store.has(descriptor)).toBe(false);
    expect(() => store.read(descriptor)).toThrow(expect.objectContaining({ code: 'TSV_STORE' }));
  });

  test('reads no document that is too large for one', () => {
    const { store } = emptyStore();
    const descriptor = { ...descriptorOf(Buffer.from('x')), size: 1e9 };
    expect(() => store.read(descriptor)).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
  });
});

describe('a damaged blob', () => {
  const text = Buffer.from('{"manifest":true}');
  const damages: readonly [string, (path: string) => void][] = [
    ['with one changed bit', (path) => flipBit(path, 3)],
    [
      'with a NUL appended',
      (path) => {
        chmodSync(path, 0o600);
        writeFileSync(path, Buffer.concat([text, Buffer.alloc(1)]));
      },
    ],
    [
      'that is cut off',
      (path) => {
        chmodSync(path, 0o600);
        truncateSync(path, 5);
      },
    ],
    [
      'that is empty',
      (path) => {
        chmodSync(path, 0o600);
        truncateSync(path, 0);
      },
    ],
  ];
  test.each(damages)('S28 %s is found by every reader, and removed', async (_what, damage) => {
    const readers: ((store: ContentStore, descriptor: Descriptor) => Promise<unknown>)[] = [
      async (store, descriptor) => store.read(descriptor),
      (store, descriptor) => allOf(store.stream(descriptor)),
    ];
    for (const read of readers) {
      const { store } = emptyStore();
      const descriptor = store.put(text, 'x');
      const other = store.put(Buffer.from('other'), 'x');
      damage(store.path(descriptor.digest));
      await expect(read(store, descriptor)).rejects.toMatchObject({ code: 'TSV_DIGEST' });
      expect(existsSync(store.path(descriptor.digest))).toBe(false);
      expect(store.read(other).toString()).toBe('other');
    }
  });

  test('S28 is one whose descriptor has another size, too', () => {
    const { store } = emptyStore();
    const descriptor = store.put(text, 'x');
    expect(store.has({ ...descriptor, size: text.length + 1 })).toBe(false);
    expect(() => store.read({ ...descriptor, size: text.length + 1 })).toThrow(
      expect.objectContaining({ code: 'TSV_DIGEST' }),
    );
  });

  test('F24 is found by a look at all of them, which changes nothing', async () => {
    const { store } = emptyStore();
    const [bad, good] = [store.put(text, 'x'), store.put(Buffer.from('good'), 'x')];
    flipBit(store.path(bad.digest), 0);
    const found: Record<string, boolean> = {};
    for await (const { digest, ok } of store.verify(never)) found[digest] = ok;
    expect(found).toEqual({ [bad.digest]: false, [good.digest]: true });
    expect(store.list()).toHaveLength(2);
    const aborted = AbortSignal.abort();
    await expect(store.verify(aborted).next()).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
  });

  test('F24 is found at its next use and fetched again, once; other blobs are left alone', async () => {
    const file = someBytes(3_000_000);
    const descriptor = descriptorOf(file);
    const server = await fileServer(file);
    const from = httpFile(server.url, httpClient());
    const { store, files } = emptyStore();
    const other = store.put(Buffer.from('other'), 'x');
    await store.ingest(descriptor, from, quiet);
    const before = statSync(store.path(other.digest)).mtimeMs;
    flipBit(store.path(descriptor.digest), 2_500_000);
    const tap = new RecordingTap();
    await store.ingest(descriptor, from, { ...quiet, tap });
    expect(server.requests).toHaveLength(2);
    expect(tap.restarts).toBe(1);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(readFileSync(store.path(descriptor.digest)).equals(file)).toBe(true);
    expect(statSync(store.path(other.digest)).mtimeMs).toBe(before);
    await store.ingest(descriptor, from, quiet);
    expect(server.requests).toHaveLength(2);
    expect(files()).toHaveLength(2);
  });

  test('F24 in what an interrupted download left costs one more download', async () => {
    const file = someBytes(500_000);
    const descriptor = descriptorOf(file);
    const server = await fileServer(file);
    const { store, folder, files } = emptyStore();
    const partial = join(folder, `partial/sha256-${descriptor.digest.slice(7)}`);
    writeFileSync(partial, someBytes(200_000, 'wrong'));
    writeFileSync(`${partial}.json`, '{"validator":"\\"1\\"","ranges":true}');
    const tap = new RecordingTap();
    await store.ingest(descriptor, httpFile(server.url, httpClient()), { ...quiet, tap });
    expect(server.requests.map(({ headers }) => headers.range)).toEqual(['bytes=200000-', undefined]);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(files()).toEqual([`blobs/sha256/${descriptor.digest.slice(7)}`]);
  });
});

describe('what an interrupted download has left', () => {
  const file = someBytes(500_000);
  const descriptor = descriptorOf(file);

  async function with_(left: Buffer, origin: string | undefined) {
    const server = await fileServer(file);
    const made = emptyStore();
    const path = join(made.folder, `partial/sha256-${descriptor.digest.slice(7)}`);
    writeFileSync(path, left);
    if (origin !== undefined) writeFileSync(`${path}.json`, origin);
    const tap = new RecordingTap();
    await made.store.ingest(descriptor, httpFile(server.url, httpClient()), { ...quiet, tap });
    expect(tap.bytes.equals(file)).toBe(true);
    expect(made.files()).toEqual([`blobs/sha256/${descriptor.digest.slice(7)}`]);
    return server.requests.map(({ headers }) => [headers.range, headers['if-range']]);
  }

  test('is gone on with', async () => {
    const origin = '{"validator":"\\"1\\"","ranges":true}';
    expect(await with_(file.subarray(0, 123_456), origin)).toEqual([['bytes=123456-', '"1"']]);
  });

  test('needs no more than a name when all of it is there', async () => {
    expect(await with_(file, undefined)).toEqual([]);
  });

  test('is of use without a note of where it came from, or with half of one', async () => {
    const expected = [['bytes=1000-', undefined]];
    expect(await with_(file.subarray(0, 1000), undefined)).toEqual(expected);
    for (const note of [
      '',
      '{"validator":"\\"1',
      'null',
      '7',
      '{"validator":7,"ranges":1}',
      '{"validator":"a\\nb","ranges":true}',
    ]) {
      expect(await with_(file.subarray(0, 1000), note)).toEqual(expected);
    }
  });

  test('is not of use when it is longer than the blob', async () => {
    expect(await with_(Buffer.concat([file, file]), undefined)).toEqual([[undefined, undefined]]);
  });

  test('is listed, and removed when nobody works on it', async () => {
    const { store, folder, files } = emptyStore();
    const path = join(folder, `partial/sha256-${descriptor.digest.slice(7)}`);
    writeFileSync(path, file.subarray(0, 1000));
    writeFileSync(`${path}.json`, '{}');
    writeFileSync(join(folder, 'partial/new-0123456789abcdef'), 'x');
    mkdirSync(join(folder, 'partial/somebody else’s'));
    const found = store.partials();
    expect(found.map(({ name, bytes }) => [name, bytes]).sort()).toEqual([
      ['new-0123456789abcdef', 1],
      [`sha256-${descriptor.digest.slice(7)}`, 1002],
    ]);
    expect(found.map((partial) => store.removePartial(partial))).toEqual([true, true]);
    expect(store.partials()).toEqual([]);
    expect(files()).toEqual([]);
  });

  test('is not removed while somebody works on it', async () => {
    const server = await fileServer(file, { holdAfter: () => 1000 });
    const { store } = emptyStore();
    const controller = new AbortController();
    const refused = new Promise<boolean>((resolve) => {
      const progress = () => {
        const [under] = store.partials();
        if (under !== undefined) resolve(store.removePartial(under));
      };
      const options = { signal: controller.signal, progress, download: impatient };
      store.ingest(descriptor, httpFile(server.url, httpClient()), options).catch(() => {});
    });
    expect(await refused).toBe(false);
    controller.abort();
  });
});

describe('two who want the same blob in one process', () => {
  test('F25 get it with one download, and the second sees how far the first is', async () => {
    const file = someBytes(3_000_000);
    const descriptor = descriptorOf(file);
    let release = () => {};
    const server = await fileServer(file, { holdAfter: () => 2_500_000 });
    const { store } = emptyStore();
    const client = httpClient();
    const from = httpFile(server.url, client);
    const seen: number[] = [];
    const controller = new AbortController();
    const gone = new Promise<void>((resolve) => {
      release = resolve;
    });
    const first = store.ingest(descriptor, from, {
      signal: controller.signal,
      progress: () => {},
      download: { ...impatient },
    });
    // The server says nothing more: the first one is stopped when the second has seen its progress, and takes over.
    const taps = new RecordingTap();
    const whole = await fileServer(file);
    const second = store.ingest(descriptor, httpFile(whole.url, client), {
      signal: never,
      progress: (done) => {
        seen.push(done);
        if (done >= 2_000_000) release();
      },
      tap: taps,
    });
    await gone;
    controller.abort();
    await expect(first).rejects.toMatchObject({ code: 'TSV_CANCELLED' });
    await second;
    expect(taps.bytes.equals(file)).toBe(true);
    expect(server.requests).toHaveLength(1);
    expect(whole.requests.map(({ headers }) => headers.range)).toEqual(['bytes=2500000-']);
  });
});

describe('a file of this host', () => {
  test('is taken by its path or its URL, in parts as well', async () => {
    const file = someBytes(900_000);
    const path = join(temporaryFolder(), 'a file');
    writeFileSync(path, file);
    const download = { ...impatient, parallelFromBytes: 1000, partBytes: 100_000 };
    for (const source of [path, pathToFileURL(path).href]) {
      const { store } = emptyStore();
      const tap = new RecordingTap();
      await store.ingest(descriptorOf(file), localFile(source), { ...quiet, tap, download });
      expect(tap.bytes.equals(file)).toBe(true);
    }
  });

  test('that is not there, or is no file, is an error at once', async () => {
    const { store } = emptyStore();
    const descriptor = descriptorOf(Buffer.from('x'));
    for (const source of [join(temporaryFolder(), 'nothing'), temporaryFolder(), '/dev/zero', 'file://elsewhere/x']) {
      await expect(store.ingest(descriptor, localFile(source), quiet)).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    }
  });

  test('that has another size is refused', async () => {
    const path = join(temporaryFolder(), 'file');
    writeFileSync(path, 'xy');
    const { store, files } = emptyStore();
    await expect(store.ingest(descriptorOf(Buffer.from('x')), localFile(path), quiet)).rejects.toMatchObject({
      code: 'TSV_DIGEST',
    });
    expect(files()).toEqual([]);
  });
});
