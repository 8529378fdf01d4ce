import { mkdtempSync, readdirSync, readFileSync, realpathSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { type ImageStore, imageStore, sha256, writeLayout } from '../support/image-store.ts';
import { makeLayout, mustRun, testRegistry } from '../support/registry.ts';

let dir: string;
let image: string;
beforeAll(() => {
  dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-archives-')));
  const config = ['--config.cmd', '/bin/app', '--config.workingdir', '/srv', '--config.user', '7:8'];
  image = makeLayout(dir, 'one', [{ '/etc/a': 'a\n', '/bin/app': 'app\n' }, { '/etc/b': 'b\n'.repeat(1000) }], config);
});
afterAll(() => rmSync(dir, { recursive: true, force: true }));

const skopeo = (...args: string[]): string => mustRun(dir, 'skopeo', '--insecure-policy', ...args).toString();
const name = 'registry.example.org/team/app:1.0';

interface Details {
  readonly names: readonly string[];
  readonly digest: string;
  readonly config: { readonly digest: string; readonly cmd: readonly string[]; readonly user: string };
  readonly layers: readonly { readonly digest: string; readonly diffId: string; readonly mediaType: string }[];
}
const inspect = async (store: ImageStore, word: string): Promise<Details> =>
  (JSON.parse(await store.ok(['image', 'inspect', word])) as Details[])[0] as Details;
const diffIds = ({ layers }: Details): string[] => layers.map(({ diffId }) => diffId);
const unpacked = ({ store }: ImageStore): string[] =>
  readdirSync(join(store, 'images', 'layers')).flatMap((map) =>
    readdirSync(join(store, 'images', 'layers', map)).filter((entry) => !entry.startsWith('.')),
  );
const original = (): { config: string; diffIds: string[] } => {
  const config = skopeo('inspect', '--config', '--raw', `oci:${image}`);
  return { config, diffIds: (JSON.parse(config) as { rootfs: { diff_ids: string[] } }).rootfs.diff_ids };
};

describe('archives of skopeo', () => {
  test.each([
    ['an OCI archive', `oci-archive:NAME.tar:${name}`, 'NAME.tar'],
    ['a docker archive', `docker-archive:NAME.tar:${name}`, 'NAME.tar'],
    ['an image layout', `oci:NAME:${name}`, 'NAME'],
  ])('are loaded: %s', async (what, target, file) => {
    const store = imageStore();
    const own = what.replaceAll(' ', '-');
    skopeo('copy', `oci:${image}`, target.replace('NAME', join(dir, own)));
    expect(await store.ok(['image', 'load', '-q', '-i', join(dir, file.replace('NAME', own))])).toBe('');
    const details = await inspect(store, name);
    expect(details.names).toEqual([name]);
    expect(details.config).toMatchObject({ cmd: ['/bin/app'], user: '7:8', workdir: '/srv' });
    expect(diffIds(details)).toEqual(original().diffIds);
    await store.ok('store verify');
  });

  test('and layers with zstd, with gzip and without either: one tar is unpacked once', async () => {
    const store = imageStore();
    mustRun(dir, 'sh', '-c', 'mkdir -p packed && seq 1 100000 > packed/seq && tar -cf packed.tar packed');
    const tar = readFileSync(join(dir, 'packed.tar'));
    const packings = { '': 'cat', '+gzip': 'gzip', '+zstd': 'zstd -q' };
    for (const [packing, program] of Object.entries(packings)) {
      const layer = mustRun(dir, 'sh', '-c', `${program} < packed.tar`);
      const layerType = `application/vnd.oci.image.layer.v1.tar${packing}`;
      const tag = `packed:${packing.slice(1) || 'plain'}`;
      const folder = writeLayout(join(dir, `packed${packing}`), tag, tar, { layer, layerType });
      await store.ok(['image', 'load', '-i', folder]);
      expect((await inspect(store, tag)).layers).toMatchObject([{ mediaType: layerType }]);
      expect(unpacked(store)).toHaveLength(1);
      // Each way of packing must also be able to come first.
      const alone = imageStore();
      await alone.ok(['image', 'load', '-i', folder]);
      await alone.ok('store verify');
    }
    // Three manifests and layers, one config.
    expect(readdirSync(join(store.store, 'images', 'blobs', 'sha256'))).toHaveLength(7);
    await store.ok('store verify');
  });
});

describe('archives of tsv', () => {
  test.each([
    ['oci-archive', `oci-archive:OUT:${name}`],
    ['docker-archive', `docker-archive:OUT:${name}`],
    ['oci-dir', `oci:OUT:${name}`],
  ])('are read by skopeo, and umoci unpacks from them what went in: %s', async (format, source) => {
    const store = imageStore();
    skopeo('copy', `oci:${image}`, `oci:${join(dir, `in-${format}`)}:${name}`);
    await store.ok(['image', 'load', '-i', join(dir, `in-${format}`)]);
    const out = join(store.dir, 'out');
    await store.ok(['image', 'save', '--format', format, '-o', out, name]);
    const from = source.replace('OUT', out);
    expect(skopeo('inspect', '--config', '--raw', from)).toBe(original().config);
    const again = join(dir, `again-${format}`);
    skopeo('copy', from, `oci:${again}:back`);
    const bundle = join(dir, `bundle-${format}`);
    mustRun(dir, 'umoci', 'unpack', '--rootless', '--image', `${again}:back`, bundle);
    expect(readFileSync(join(bundle, 'rootfs', 'etc', 'b'), 'utf8')).toBe('b\n'.repeat(1000));
    // Twice the same, byte for byte.
    if (format === 'oci-dir') return;
    await store.ok(['image', 'save', '--format', format, '-o', join(store.dir, 'out-2'), name]);
    expect(readFileSync(join(store.dir, 'out-2')).equals(readFileSync(out))).toBe(true);
  });

  test('the images of the store are an image layout that others read where it lies', async () => {
    const store = imageStore();
    skopeo('copy', `oci:${image}`, `oci:${join(dir, 'in-place')}:${name}`);
    await store.ok(['image', 'load', '-i', join(dir, 'in-place')]);
    expect(skopeo('inspect', '--config', '--raw', `oci:${join(store.store, 'images')}:${name}`)).toBe(
      original().config,
    );
  });
});

describe('an index', () => {
  const platforms = [
    { os: 'linux', architecture: 'arm64', variant: 'v8' },
    { os: 'linux', architecture: 'amd64' },
    { os: 'windows', architecture: 'amd64' },
  ];

  /** An image layout with an index of one image for each platform. */
  function writeIndex(): string {
    const folder = join(dir, 'index');
    const manifests = platforms.map((platform) => {
      const tar = Buffer.alloc(1024);
      writeLayout(folder, 'x', tar, { config: (config) => ({ ...config, ...platform }) });
      const index = JSON.parse(readFileSync(join(folder, 'index.json'), 'utf8')) as { manifests: object[] };
      return { ...index.manifests[0], annotations: undefined, platform };
    });
    const bytes = Buffer.from(
      JSON.stringify({ schemaVersion: 2, mediaType: 'application/vnd.oci.image.index.v1+json', manifests }),
    );
    const digest = mustRun(dir, 'sh', '-c', `printf %s '${bytes}' | sha256sum`).toString().slice(0, 64);
    writeFileSync(join(folder, 'blobs', 'sha256', digest), bytes);
    const entry = {
      mediaType: 'application/vnd.oci.image.index.v1+json',
      digest: `sha256:${digest}`,
      size: bytes.length,
      annotations: { 'org.opencontainers.image.ref.name': name },
    };
    writeFileSync(join(folder, 'index.json'), JSON.stringify({ schemaVersion: 2, manifests: [entry] }));
    return folder;
  }

  test('gives the image of this host, another one when it is asked for, and both may be there', async () => {
    const store = imageStore();
    const folder = writeIndex();
    await store.ok(['image', 'load', '-i', folder]);
    expect(await inspect(store, name)).toMatchObject({ platform: 'linux/amd64' });
    expect(await store.ok('image list')).not.toContain('PLATFORM');
    await store.ok(['image', 'load', '--platform', 'linux/arm64', '-i', folder]);
    expect(await store.ok('image list')).toMatch(/PLATFORM[\s\S]*linux\/arm64/);
    expect(await inspect(store, name)).toMatchObject({ platform: 'linux/amd64' });
    const error = await store.fails(
      ['image', 'load', '--platform', 'linux/riscv64', '-i', folder],
      'TSV_IMAGE_UNKNOWN',
    );
    expect(error).toContain('linux/arm64, linux/amd64');
    await store.ok('store verify');
    await store.ok(['image', 'rm', name]);
    expect(await store.names()).toEqual([]);
  });

  test('of a registry is chosen from as well, and its digest is a name for what was chosen', async () => {
    const registry = await testRegistry();
    const store = imageStore();
    registry.push(`${writeIndex()}:${name}`, 'team/many:1');
    const many = `${registry.host}/team/many:1`;
    await store.ok(['image', 'pull', many]);
    const [listed] = JSON.parse(await store.ok('image ls --json')) as { digest: string; sourceDigest: string }[];
    const host = await inspect(store, many);
    expect(host).toMatchObject({ platform: 'linux/amd64', digest: listed?.digest });
    expect(listed?.sourceDigest).toBe(sha256(registry.rawManifest('team/many:1')));
    await store.ok(['image', 'pull', '--platform', 'linux/arm64', many]);
    const byIndex = `${registry.host}/team/many@${listed?.sourceDigest}`;
    expect((await inspect(store, byIndex)).digest).toBe(host.digest);
    // What was pulled by the digest of an index is found by it.
    const other = imageStore();
    await other.ok(['image', 'pull', byIndex]);
    expect((await inspect(other, byIndex)).digest).toBe(host.digest);
    const error = await store.fails(['image', 'pull', '--platform', 'linux/riscv64', many], 'TSV_IMAGE_UNKNOWN');
    expect(error).toContain('linux/arm64, linux/amd64');
  });
});
