import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { tarArchive } from '../../src/tar/writer.ts';
import { start, tsvProgram } from '../support/cli.ts';
import { blobs, imageStore, type LayoutParts, layers, MeddlingProxy, writeLayout } from '../support/image-store.ts';
import { teamRegistry } from '../support/team-registry.ts';

const team = teamRegistry();
const app = (tag = '1.0') => `${team().registry.host}/team/app:${tag}`;

describe('an image that is wrong', () => {
  const tarOf = async (content: string): Promise<Buffer> => {
    const member = { name: 'hello', size: content.length, content: () => [Buffer.from(content)] };
    const chunks: Uint8Array[] = [];
    for await (const chunk of tarArchive([member])) chunks.push(chunk);
    return Buffer.concat(chunks);
  };
  const oci = 'application/vnd.oci.image';
  const wrong: readonly [string, string, (tar: Buffer) => LayoutParts][] = [
    [
      'has a layer with other bytes than its digest says',
      'TSV_DIGEST',
      (tar) => ({ stored: Buffer.from(gzipSync(tar)).fill(0, 30, 31) }),
    ],
    [
      'has a layer with one more byte',
      'TSV_DIGEST',
      (tar) => ({ stored: Buffer.concat([gzipSync(tar), Buffer.of(0)]) }),
    ],
    ['has a layer that unpacks to something else', 'TSV_DIGEST', () => ({ diffId: `sha256:${'0'.repeat(64)}` })],
    ['has a layer whose gzip is cut off', 'TSV_IMAGE', (tar) => ({ layer: gzipSync(tar).subarray(0, -20) })],
    ['has a layer that is no archive', 'TSV_IMAGE', () => ({ layer: gzipSync('no archive '.repeat(100)) })],
    [
      'has more diff ids than layers',
      'TSV_IMAGE',
      () => ({ config: (config) => ({ ...config, rootfs: { type: 'layers', diff_ids: [] } }) }),
    ],
    [
      'is manifest and index at once',
      'TSV_IMAGE',
      () => ({ manifest: (manifest) => ({ ...manifest, manifests: [] }) }),
    ],
    [
      'calls itself something else',
      'TSV_IMAGE',
      () => ({ manifest: (manifest) => ({ ...manifest, mediaType: `${oci}.index.v1+json` }) }),
    ],
    [
      'has a digest that leads out of the store',
      'TSV_IMAGE',
      () => ({
        manifest: (manifest) => ({
          ...manifest,
          config: { mediaType: `${oci}.config.v1+json`, digest: 'sha256:../../../etc/passwd', size: 1 },
        }),
      }),
    ],
    [
      'has a foreign layer',
      'TSV_IMAGE',
      () => ({ layerType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }),
    ],
    [
      'has a manifest of schema 1',
      'TSV_IMAGE',
      () => ({ manifestType: 'application/vnd.docker.distribution.manifest.v1+prettyjws' }),
    ],
    [
      'is a chart',
      'TSV_IMAGE',
      () => ({
        manifest: (manifest) => ({
          ...manifest,
          config: { ...(manifest.config as object), mediaType: 'application/vnd.cncf.helm.config.v1+json' },
        }),
      }),
    ],
  ];
  test('S28 S29 S30 S31 leaves nothing half-stored and the rest of the store untouched', async () => {
    const store = imageStore();
    const good = await tarOf('good');
    await store.ok(['image', 'load', '-i', writeLayout(join(store.dir, 'good'), 'good:1', good)]);
    const before = await store.ok('image inspect good:1');
    for (const [index, [what, code, parts]] of wrong.entries()) {
      const tar = await tarOf(`bad ${index}`);
      const layout = writeLayout(join(store.dir, `bad-${index}`), 'bad:1', tar, parts(tar));
      const result = await store.tsv(['image', 'load', '-i', layout]);
      expect(result.code, `${what}\n${result.stdout}${result.stderr}`).toBe(1);
      expect(result.stderr.match(/\[TSV_[A-Z_]+\]/g), `${what}\n${result.stderr}`).toEqual([`[${code}]`]);
      expect(await store.names(), what).toEqual(['good:1']);
      expect(store.leftovers(), what).toEqual([]);
    }
    await store.ok('store verify');
    expect(await store.ok('image inspect good:1')).toBe(before);
    await store.ok('store gc -y');
    await store.ok('store verify');
    expect(layers(store)).toHaveLength(1);
    expect(blobs(store)).toHaveLength(3);
  });

  test('on the way: a changed byte is found, and named with its digest', async () => {
    const store = imageStore();
    const proxy = await MeddlingProxy.start(team().registry.host);
    const name = `${proxy.host}/team/app:1.0`;
    // Also where the gzip becomes wrong: it is the way that has to be blamed, not the image.
    for (const flipAt of [5000, 1_000_000, 0]) {
      proxy.meddle = ({ size }) => (size > 100_000 ? { flipAt } : undefined);
      expect(await store.fails(['image', 'pull', name], 'TSV_DIGEST')).toMatch(/sha256:[0-9a-f]{12}/);
    }
    expect(await store.names()).toEqual([]);
    expect(store.leftovers()).toEqual([]);
    await store.ok('store verify');
    proxy.meddle = () => undefined;
    await store.ok(['image', 'pull', name]);
    await store.ok('store verify');
  });
});

describe('a pull that ends early', () => {
  test.each([
    ['SIGINT', 130],
    ['SIGTERM', 130],
    ['SIGKILL', 137],
  ] as const)('by %s leaves a whole store, and the next one goes on from there', async (signal, code) => {
    const proxy = await MeddlingProxy.start(team().registry.host);
    for (const holdAfter of [1, 700_000, 1_400_000]) {
      const store = imageStore();
      const name = `${proxy.host}/team/app:1.0`;
      proxy.meddle = ({ size }) => (size > 100_000 ? { holdAfter } : undefined);
      const held = proxy.held();
      const pull = store.start(['image', 'pull', name], { input: '' });
      await held;
      pull.signal(signal);
      expect((await pull.result).code).toBe(code);
      expect(await store.names()).toEqual([]);
      await store.ok('store verify');
      proxy.meddle = () => undefined;
      proxy.requests.length = 0;
      await store.ok(['image', 'pull', name]);
      await store.ok('store verify');
      expect(store.leftovers()).toEqual([]);
      expect(await store.names()).toEqual([name]);
      if (holdAfter > 1 && signal !== 'SIGKILL')
        expect(
          proxy.requests.some(({ start: from }) => from > 0),
          'it goes on',
        ).toBe(true);
    }
  });

  // The moments at which something gets its name, and before and after.
  const moments = ['link:1', 'link:2', 'link:3', 'link:4', 'rename:1', 'rename:2', 'fsync:1', 'fsync:3', 'fsync:6'];
  test('killed when something gets its name: what has none is not there', async (context) => {
    const probe = await start('/', ['strace', '-f', '-o', '/dev/null', 'true'], { input: '' }).result;
    if (probe.code !== 0) context.skip('strace does not work here');
    if (process.getuid?.() !== 0) context.skip('newuidmap gets no rights of its own under strace');
    let killed = 0;
    for (const moment of moments) {
      const [call = '', when = ''] = moment.split(':');
      const store = imageStore();
      const argv = ['strace', '-f', '-qq', '-o', '/dev/null', '-e', `trace=${call}`];
      const inject = ['-e', `inject=${call}:signal=KILL:when=${when}`];
      const pull = [process.execPath, tsvProgram, 'image', 'pull', app()];
      const env = { ...store.env, UV_THREADPOOL_SIZE: '1' };
      const { code } = await start(store.dir, [...argv, ...inject, ...pull], { env, input: '' }).result;
      if (code === 137) killed += 1;
      await store.ok('store verify');
      await store.ok(['image', 'pull', app()]);
      await store.ok('store verify');
      expect(store.leftovers(), moment).toEqual([]);
      await store.ok('store gc -y');
      expect(await store.names()).toEqual([app()]);
    }
    expect(killed).toBeGreaterThanOrEqual(6);
  });
});
