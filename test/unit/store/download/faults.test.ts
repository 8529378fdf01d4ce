import { describe, expect, test } from 'vitest';
import { descriptorOf, emptyStore, httpClient, impatient, never, RecordingTap } from '../../../support/content.ts';
import { fileServer, localServer, type Manners, someBytes } from '../../../support/file-server.ts';
import { httpFile } from '../../../support/http-file.ts';

const KiB = 1024;
const file = someBytes(1000 * KiB);
const descriptor = descriptorOf(file);
const blob = `blobs/sha256/${descriptor.digest.slice(7)}`;
const partial = `partial/sha256-${descriptor.digest.slice(7)}`;

/** Ingests the file from a server with such manners, into a store of its own. */
async function fetching(manners: Manners, download = impatient, signal = never) {
  const server = await fileServer(file, manners);
  const { store, files } = emptyStore();
  const tap = new RecordingTap();
  const seen: number[] = [];
  const from = httpFile(`${server.url}/layer`, httpClient());
  const options = { signal, progress: (done: number) => void seen.push(done), tap, download };
  const again = () => store.ingest(descriptor, from, { signal: never, progress: () => {}, download });
  return { result: store.ingest(descriptor, from, options), requests: server.requests, store, files, tap, seen, again };
}

const ranges = (requests: readonly { headers: { range?: string | undefined } }[]) =>
  requests.map(({ headers }) => headers.range);

describe('a download from a server that behaves', () => {
  test('is one request, whose bytes go to the tap and the store as they come', async () => {
    const { result, requests, files, tap, seen, store } = await fetching({});
    await result;
    expect(ranges(requests)).toEqual([undefined]);
    expect(files()).toEqual([blob]);
    expect(store.read(descriptor).equals(file)).toBe(true);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(seen.at(-1)).toBe(file.length);
    expect([...seen].sort((a, b) => a - b)).toEqual(seen);
  });

  test('comes in parts, several at a time, when it is large; the tap still gets them in order', async () => {
    const parts = { ...impatient, parallelFromBytes: 200 * KiB, partBytes: 150 * KiB, connections: 3 };
    const { result, requests, files, tap } = await fetching({}, parts);
    await result;
    expect(tap.bytes.equals(file)).toBe(true);
    expect(tap.restarts).toBe(0);
    expect(files()).toEqual([blob]);
    const starts = ranges(requests).map((range) => Number(/^bytes=(\d+)-/.exec(range ?? '')?.[1]));
    expect(starts.sort((a, b) => a - b)).toEqual([0, 150, 300, 450, 600, 750, 900].map((n) => n * KiB));
    expect(requests.reduce((sum, { sent }) => sum + sent, 0)).toBe(file.length);
  });

  test('in parts goes on with each part where it broke', async () => {
    const parts = { ...impatient, parallelFromBytes: 200 * KiB, partBytes: 250 * KiB, connections: 4 };
    const { result, requests, tap, files } = await fetching(
      { dropAfter: (index) => (index < 4 ? 100 * KiB : undefined) },
      parts,
    );
    await result;
    expect(tap.bytes.equals(file)).toBe(true);
    expect(tap.restarts).toBe(0);
    expect(requests).toHaveLength(8);
    expect(files()).toEqual([blob]);
  });
});

describe('a network that drops', () => {
  test.each([10, 50, 99])('F22 at %d % of a download costs less than one chunk of what had come', async (percent) => {
    const at = Math.floor((file.length * percent) / 100);
    const { result, requests, tap, files } = await fetching({ dropAfter: (index) => (index === 0 ? at : undefined) });
    await result;
    expect(tap.bytes.equals(file)).toBe(true);
    expect(tap.restarts).toBe(0);
    expect(files()).toEqual([blob]);
    expect(requests).toHaveLength(2);
    const sent = requests.reduce((sum, request) => sum + request.sent, 0);
    expect(sent - file.length).toBeLessThan(64 * KiB);
  });

  test('F22 for good leaves what has come, and the next command goes on from there', async () => {
    let down = true;
    const { result, requests, store, files, again } = await fetching({
      dropAfter: (index) => (index === 0 ? 500 * KiB : undefined),
      status: (index) => (index > 0 && down ? { status: 502 } : undefined),
    });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    expect(files()).toEqual([partial, `${partial}.json`]);
    expect(store.has(descriptor)).toBe(false);
    down = false;
    const before = requests.length;
    await again();
    expect(files()).toEqual([blob]);
    const [last] = requests.slice(before);
    expect(requests).toHaveLength(before + 1);
    expect(last?.headers['if-range']).toBe('"1"');
    expect(last?.sent).toBeLessThan(501 * KiB);
    expect(last?.sent).toBeGreaterThan(499 * KiB - 64 * KiB);
  });

  test('F22 is given up after some failures without progress, with what failed in the error', async () => {
    const { result, requests, files } = await fetching({ dropAfter: () => 0 });
    await expect(result).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      details: [expect.stringMatching(/127\.0\.0\.1:\d+ broke the connection/), '0 of 1024000 bytes had come'],
    });
    expect(requests).toHaveLength(4);
    expect(files()).toEqual([]);
  });

  test('F22 is not given up while there is progress between the failures', async () => {
    const { result, requests } = await fetching({ dropAfter: (index) => (index < 9 ? 100 * KiB : undefined) });
    await result;
    expect(requests.length).toBeGreaterThan(9);
  });
});

describe('a resumed download', () => {
  test('S40 F23 asks with If-Range, and starts again from zero when the file has changed', async () => {
    const { result, requests, tap, files } = await fetching({
      etag: (index) => (index === 0 ? '"old"' : '"new"'),
      content: (index) => (index === 0 ? someBytes(file.length, 'old') : file),
      dropAfter: (index) => (index === 0 ? 500 * KiB : undefined),
    });
    await result;
    expect(requests[1]?.headers['if-range']).toBe('"old"');
    expect(requests[1]?.headers.range).toMatch(/^bytes=\d+-$/);
    expect(tap.restarts).toBe(1);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(files()).toEqual([blob]);
  });

  test('F23 of a file whose ETag is another one each time ends with an error', async () => {
    const { result, files } = await fetching({
      etag: (index) => `"${index}"`,
      dropAfter: () => 100 * KiB,
    });
    await expect(result).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      details: [/changes at its source/, /bytes/].map((text) => expect.stringMatching(text)),
    });
    expect(files().filter((path) => path.startsWith('blobs'))).toEqual([]);
  });

  test('S40 F23 takes the whole file from a server that ignores Range', async () => {
    const { result, requests, tap, files } = await fetching({
      ranges: () => false,
      dropAfter: (index) => (index === 0 ? 500 * KiB : undefined),
    });
    await result;
    expect(requests.map(({ sent }) => sent)).toEqual([500 * KiB, file.length]);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(files()).toEqual([blob]);
  });

  test('S40 F23 of a large file takes it whole from a server that ignores Range, in one request', async () => {
    const parts = { ...impatient, parallelFromBytes: 200 * KiB, partBytes: 150 * KiB };
    const { result, requests, tap } = await fetching({ ranges: () => false }, parts);
    await result;
    expect(requests.map(({ sent }) => sent)).toEqual([file.length]);
    expect(tap.bytes.equals(file)).toBe(true);
  });

  test('F23 of a large file takes the rest in one piece when the server stops knowing ranges', async () => {
    const parts = { ...impatient, parallelFromBytes: 200 * KiB, partBytes: 150 * KiB };
    const { result, tap, files } = await fetching({ ranges: (index) => index === 0 }, parts);
    await result;
    expect(tap.bytes.equals(file)).toBe(true);
    expect(tap.restarts).toBe(0);
    expect(files()).toEqual([blob]);
  });

  test('F23 that finds the server without ranges leaves nothing behind when it fails', async () => {
    const { result, files } = await fetching({ ranges: () => false, dropAfter: () => 10 * KiB });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    expect(files()).toEqual([]);
  });

  test('S40 F23 whose bytes turn out to be wrong starts once from zero', async () => {
    const wrongStart = Buffer.concat([Buffer.from('x'), file.subarray(1)]);
    const { result, requests, tap, files } = await fetching({
      content: (index) => (index === 0 ? wrongStart : file),
      dropAfter: (index) => (index === 0 ? 500 * KiB : undefined),
    });
    await result;
    expect(requests).toHaveLength(3);
    expect(requests[2]?.headers.range).toBeUndefined();
    expect(tap.restarts).toBe(1);
    expect(tap.bytes.equals(file)).toBe(true);
    expect(files()).toEqual([blob]);
  });

  test('S40 F23 whose bytes are wrong again is refused', async () => {
    const wrong = Buffer.concat([Buffer.from('x'), file.subarray(1)]);
    const { result, requests, files } = await fetching({
      content: () => wrong,
      dropAfter: (index) => (index === 0 ? 500 * KiB : undefined),
    });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DIGEST' });
    expect(requests).toHaveLength(3);
    expect(files()).toEqual([]);
  });

  test('F23 answered with another range than the one that was asked for is refused', async () => {
    const server = await localServer((_request, response, _seen, index) => {
      if (index === 0) {
        response.writeHead(200, { etag: '"1"', 'accept-ranges': 'bytes', 'content-length': file.length });
        response.write(file.subarray(0, 100), () => response.destroy());
        return;
      }
      const body = file.subarray(200);
      const contentRange = `bytes 200-${file.length - 1}/${file.length}`;
      response.writeHead(206, { etag: '"1"', 'content-range': contentRange, 'content-length': body.length }).end(body);
    });
    const { store } = emptyStore();
    const from = httpFile(server.url, httpClient());
    const result = store.ingest(descriptor, from, { signal: never, progress: () => {}, download: impatient });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    expect(store.has(descriptor)).toBe(false);
  });
});

describe('what a server sends', () => {
  const changed = Buffer.from(file);
  changed[700 * KiB] = (changed[700 * KiB] ?? 0) ^ 1;
  test.each([
    ['with one changed byte', changed, 'TSV_DIGEST'],
    ['with a NUL appended', Buffer.concat([file, Buffer.alloc(1)]), 'TSV_DIGEST'],
    ['without its last byte', file.subarray(0, -1), 'TSV_DIGEST'],
    ['empty', Buffer.alloc(0), 'TSV_DIGEST'],
  ])('S28 F23 %s is refused, and nothing of it is kept', async (_what, content, code) => {
    const { result, requests, files, store } = await fetching({ content: () => content });
    await expect(result).rejects.toMatchObject({ code });
    expect(requests).toHaveLength(1);
    expect(files()).toEqual([]);
    expect(store.has(descriptor)).toBe(false);
  });

  test.each([
    ['more bytes', Buffer.concat([file, Buffer.alloc(100 * KiB)]), 'TSV_DIGEST'],
    ['fewer bytes', file.subarray(0, 100 * KiB), 'TSV_DOWNLOAD'],
  ])('S28 F23 with %s, and without saying how many, is refused', async (_what, content, code) => {
    const { result, files } = await fetching({ content: () => content, unsized: true, ranges: () => false });
    await expect(result).rejects.toMatchObject({ code });
    expect(files()).toEqual([]);
  });

  test('F23 without saying how many bytes is taken when it is right', async () => {
    const { result, files } = await fetching({ unsized: true });
    await result;
    expect(files()).toEqual([blob]);
  });
});

describe('a server that is busy', () => {
  test.each([429, 503, 500, 502, 504, 408])('F23 with status %d is asked again', async (status) => {
    const { result, requests } = await fetching({ status: (index) => (index < 2 ? { status } : undefined) });
    await result;
    expect(requests).toHaveLength(3);
  });

  test('F23 is left alone for as long as it says in Retry-After', async () => {
    const pauses: number[] = [];
    const sleep = async (ms: number) => void pauses.push(ms);
    const status = (index: number) => (index < 2 ? { status: 429, headers: { 'retry-after': '7' } } : undefined);
    const { result } = await fetching({ status }, { ...impatient, sleep });
    await result;
    expect(pauses).toEqual([7000, 7000]);
  });

  test('F23 that wants to be left alone for an hour is told instead of waited for', async () => {
    const status = () => ({ status: 503, headers: { 'retry-after': '3600' } });
    const { result, requests } = await fetching({ status });
    await expect(result).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      details: [expect.stringContaining('wants to be left alone for 3600 s'), expect.anything()],
    });
    expect(requests).toHaveLength(1);
  });

  test.each([400, 401, 403, 404, 410, 501])('F23 is not what one with status %d is', async (status) => {
    const { result, requests } = await fetching({ status: () => ({ status }) });
    await expect(result).rejects.toMatchObject({ code: 'TSV_DOWNLOAD' });
    expect(requests).toHaveLength(1);
  });
});

describe('a server that is slow', () => {
  test('F23 and says nothing more is left, and asked again from there', async () => {
    const { result, requests, tap } = await fetching(
      { holdAfter: (index) => (index === 0 ? 300 * KiB : undefined) },
      { ...impatient, stallMs: 500 },
    );
    await result;
    expect(requests[1]?.headers.range).toBe(`bytes=${300 * KiB}-`);
    expect(tap.bytes.equals(file)).toBe(true);
  });

  test('F23 and does not even answer is given up', async () => {
    const server = await localServer(() => {});
    const { store, files } = emptyStore();
    const from = httpFile(server.url, httpClient());
    const download = { ...impatient, stallMs: 50, attempts: 2 };
    const result = store.ingest(descriptor, from, { signal: never, progress: () => {}, download });
    await expect(result).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      details: [expect.stringContaining('no byte came for 0.05 s'), expect.anything()],
    });
    expect(server.requests).toHaveLength(2);
    expect(files()).toEqual([]);
  });

  test('F23 and drips single bytes is given up: a slow-loris holds nobody', async () => {
    const server = await localServer((_request, response) => {
      response.writeHead(200, { 'content-length': file.length });
      let at = 0;
      const drip = setInterval(() => response.write(file.subarray(at, ++at)), 5);
      response.on('close', () => clearInterval(drip));
    });
    const { store } = emptyStore();
    const from = httpFile(server.url, httpClient());
    const download = { ...impatient, stallMs: 10_000, minBytesPerSecond: 10 * KiB, rateWindowMs: 60, attempts: 2 };
    const result = store.ingest(descriptor, from, { signal: never, progress: () => {}, download });
    await expect(result).rejects.toMatchObject({
      code: 'TSV_DOWNLOAD',
      details: [expect.stringMatching(/only \d+ bytes came in 0\.\d+ s/), expect.anything()],
    });
  });

  test('F23 is told from a reader that is slow: that one is waited for', async () => {
    const server = await fileServer(file);
    const { store } = emptyStore();
    const from = httpFile(server.url, httpClient());
    let waits = 0;
    const tap = {
      restart: () => {},
      // Longer than the server may be silent.
      write: () => (waits++ === 0 ? new Promise<void>((resolve) => setTimeout(resolve, 700)) : undefined),
    };
    // Little is read ahead, so that the connection has to wait for the reader.
    const rate = { stallMs: 500, minBytesPerSecond: KiB, rateWindowMs: 500, partBytes: 64 * KiB };
    const download = { ...impatient, ...rate };
    await store.ingest(descriptor, from, { signal: never, progress: () => {}, download, tap });
    expect(server.requests).toHaveLength(1);
  });
});

describe('a download that is interrupted', () => {
  test('ends at once, and keeps what the server can go on with', async () => {
    const controller = new AbortController();
    const { result, files, requests, again, seen } = await fetching(
      { holdAfter: (index) => (index === 0 ? 400 * KiB : undefined) },
      impatient,
      controller.signal,
    );
    const look = setInterval(() => seen.at(-1) === 400 * KiB && controller.abort(), 1);
    await expect(result).rejects.toMatchObject({ code: 'TSV_CANCELLED', exitCode: 130 });
    clearInterval(look);
    expect(files()).toEqual([partial, `${partial}.json`]);
    await again();
    expect(requests[1]?.headers.range).toBe(`bytes=${400 * KiB}-`);
    expect(files()).toEqual([blob]);
  });

  test('by its tap gives the error of the tap', async () => {
    const server = await fileServer(file);
    const { store, files } = emptyStore();
    const from = httpFile(server.url, httpClient());
    const tap = { write: () => Promise.reject(new Error('no room to unpack')), restart: () => {} };
    const result = store.ingest(descriptor, from, { signal: never, progress: () => {}, tap });
    await expect(result).rejects.toThrow('no room to unpack');
    expect(files()).toEqual([partial, `${partial}.json`]);
  });
});
