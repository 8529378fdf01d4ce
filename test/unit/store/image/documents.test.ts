import { describe, expect, test } from 'vitest';
import { TsvError } from '../../../../src/model/errors.ts';
import { parseConfig } from '../../../../src/store/image/config.ts';
import { documentLimit, mediaTypeOf, parseDocument } from '../../../../src/store/image/documents.ts';
import { layerCompression, mediaTypes } from '../../../../src/store/image/media-types.ts';

const digest = (digit: string): string => `sha256:${digit.repeat(64)}`;
const layer = { mediaType: `${mediaTypes.layer}+gzip`, digest: digest('b'), size: 20 };
const config = { mediaType: mediaTypes.config, digest: digest('a'), size: 10 };
const manifest = { schemaVersion: 2, mediaType: mediaTypes.manifest, config, layers: [layer] };
const index = {
  schemaVersion: 2,
  mediaType: mediaTypes.index,
  manifests: [
    {
      mediaType: mediaTypes.manifest,
      digest: digest('c'),
      size: 30,
      platform: { os: 'linux', architecture: 'ARM64', variant: 'v8' },
    },
  ],
};
const bytes = (value: unknown): Buffer => Buffer.from(typeof value === 'string' ? value : JSON.stringify(value));

function refusal(work: () => unknown): TsvError {
  try {
    work();
  } catch (error) {
    if (error instanceof TsvError) return error;
    throw error;
  }
  throw new Error('it was taken');
}

describe('a document', () => {
  test('is read as OCI and as Docker write it', () => {
    expect(parseDocument(bytes(manifest), mediaTypes.manifest)).toEqual({
      kind: 'manifest',
      manifest: { mediaType: mediaTypes.manifest, config, layers: [layer] },
    });
    const docker = {
      ...manifest,
      mediaType: mediaTypes.dockerManifest,
      config: { ...config, mediaType: mediaTypes.dockerConfig },
    };
    expect(parseDocument(bytes(docker), mediaTypes.dockerManifest).kind).toBe('manifest');
    // OCI's may leave its own media type out.
    expect(parseDocument(bytes({ ...manifest, mediaType: undefined }), mediaTypes.manifest).kind).toBe('manifest');
    expect(parseDocument(bytes(index), mediaTypes.index)).toEqual({
      kind: 'index',
      manifests: [
        {
          mediaType: mediaTypes.manifest,
          digest: digest('c'),
          size: 30,
          platform: { os: 'linux', architecture: 'arm64' },
        },
      ],
    });
  });

  const deep = `${'['.repeat(200_000)}${']'.repeat(200_000)}`;
  const hostile: readonly [string, unknown, string?][] = [
    ['nothing', ''],
    ['no JSON', '{"schemaVersion": 2'],
    ['not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
    ['a list', []],
    ['null', 'null'],
    ['absurdly nested', deep],
    ['absurdly nested in a field', `{"schemaVersion":2,"config":${deep}}`],
    ['too large', Buffer.alloc(documentLimit + 1, ' ')],
    ['without a version', { ...manifest, schemaVersion: undefined }],
    ['of version 1', { ...manifest, schemaVersion: 1 }],
    ['of another version', { ...manifest, schemaVersion: 3 }],
    ['of a text as version', { ...manifest, schemaVersion: '2' }],
    ['S30 with another media type in it', { ...manifest, mediaType: mediaTypes.index }],
    ['S30 a manifest with `manifests`', { ...manifest, manifests: [] }],
    ['S30 a manifest with `fsLayers`', { ...manifest, fsLayers: [] }],
    ['S30 an index with `layers`', { ...index, layers: [] }, mediaTypes.index],
    ['S30 an index with `config`', { ...index, config }, mediaTypes.index],
    ['S30 an index given as a manifest', { ...index, mediaType: undefined }],
    ['S30 a manifest given as an index', { ...manifest, mediaType: undefined }, mediaTypes.index],
    ['of another kind', manifest, 'application/json'],
    ['of schema 1', manifest, 'application/vnd.docker.distribution.manifest.v1+prettyjws'],
    ['without config', { ...manifest, config: undefined }],
    ['with config as a text', { ...manifest, config: 'x' }],
    [
      'with the config of a chart',
      { ...manifest, config: { ...config, mediaType: 'application/vnd.cncf.helm.config.v1+json' } },
    ],
    ['with a config larger than memory should hold', { ...manifest, config: { ...config, size: documentLimit + 1 } }],
    ['without layers', { ...manifest, layers: undefined }],
    ['with layers as an object', { ...manifest, layers: {} }],
    ['with more layers than a kernel stacks', { ...manifest, layers: Array.from({ length: 501 }, () => layer) }],
    [
      'S31 with a foreign layer',
      { ...manifest, layers: [{ ...layer, mediaType: 'application/vnd.docker.image.rootfs.foreign.diff.tar.gzip' }] },
    ],
    [
      'S31 with a layer that may not be distributed',
      { ...manifest, layers: [{ ...layer, mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar' }] },
    ],
    ['with a layer that is no tar', { ...manifest, layers: [{ ...layer, mediaType: 'text/plain' }] }],
    [
      'with a layer called like a property of objects',
      { ...manifest, layers: [{ ...layer, mediaType: 'constructor' }] },
    ],
    ...[
      'sha256:../../x',
      'sha256:',
      digest('B'),
      `${digest('b')}0`,
      `${digest('b')}\n`,
      `md5:${'b'.repeat(32)}`,
      `sha512:${'b'.repeat(64)}`,
      'b'.repeat(64),
      7,
      null,
    ].map((wrong): [string, unknown] => [
      `S29 with ${JSON.stringify(wrong)} as a digest`,
      { ...manifest, layers: [{ ...layer, digest: wrong }] },
    ]),
    ...[-1, 1.5, 2 ** 53, '20', null, undefined].map((wrong): [string, unknown] => [
      `S28 with ${String(wrong)} as a size`,
      { ...manifest, layers: [{ ...layer, size: wrong }] },
    ]),
    [
      'with a platform that is no word',
      { ...index, manifests: [{ ...index.manifests[0], platform: { os: '../x', architecture: 'a' } }] },
      mediaTypes.index,
    ],
    ['with annotations that are no texts', { ...manifest, annotations: { a: 1 } }],
  ];
  test.each(hostile)('that is wrong is refused: %s', (_, document, mediaType = mediaTypes.manifest) => {
    const content = Buffer.isBuffer(document) ? document : bytes(document);
    const error = refusal(() => parseDocument(content, mediaType));
    expect(error.code).toBe('TSV_IMAGE');
    expect(`${error.message}${error.details.join('')}`.length).toBeLessThan(600);
  });

  test('with a key twice is read by the last one, as elsewhere', () => {
    const twice = bytes(manifest).toString().replace('"layers":', '"layers":"x","layers":');
    expect(parseDocument(bytes(twice), mediaTypes.manifest).kind).toBe('manifest');
    const both = bytes(manifest).toString().replace('"layers":', '"manifests":[],"layers":');
    expect(refusal(() => parseDocument(bytes(both), mediaTypes.manifest)).code).toBe('TSV_IMAGE');
  });

  test('that comes without a media type says its own, or is OCI’s', () => {
    expect(mediaTypeOf(bytes({ ...manifest, mediaType: mediaTypes.dockerManifest }))).toBe(mediaTypes.dockerManifest);
    expect(mediaTypeOf(bytes({ ...manifest, mediaType: undefined }))).toBe(mediaTypes.manifest);
    expect(mediaTypeOf(bytes({ ...index, mediaType: undefined }))).toBe(mediaTypes.index);
  });
});

test('the packing of a layer is told by its media type', () => {
  const types = ['', '+gzip', '+zstd'].map((packing) => `${mediaTypes.layer}${packing}`);
  expect(types.map(layerCompression)).toEqual(['none', 'gzip', 'zstd']);
  expect(layerCompression(`${mediaTypes.dockerLayer}.gzip`)).toBe('gzip');
});

describe('a config', () => {
  const one = { layers: [layer] } as unknown as Parameters<typeof parseConfig>[1];
  const plain = { os: 'linux', architecture: 'amd64', rootfs: { type: 'layers', diff_ids: [digest('d')] } };

  test('gives what a container starts with', () => {
    const full = {
      ...plain,
      created: '2024-01-01T00:00:00Z',
      config: {
        User: '7:8',
        Env: ['A=b', 'C='],
        Entrypoint: ['/e'],
        Cmd: [],
        WorkingDir: 'srv',
        ExposedPorts: { '80/tcp': {} },
        Volumes: { '/data': {}, relative: {} },
        Labels: { __proto__: 'x', a: 'b' },
        StopSignal: 'SIGQUIT',
        Healthcheck: { Test: ['CMD', 'true'], Interval: 2e9, Timeout: 0, Retries: 3 },
      },
      history: [{ created_by: 'ADD', empty_layer: true }, {}],
    };
    expect(parseConfig(bytes(full), one)).toEqual({
      platform: { os: 'linux', architecture: 'amd64' },
      created: '2024-01-01T00:00:00Z',
      defaults: {
        user: '7:8',
        env: ['A=b', 'C='],
        entrypoint: ['/e'],
        cmd: [],
        workdir: '/srv',
        exposedPorts: ['80/tcp'],
        volumes: ['/data'],
        labels: { a: 'b' },
        stopSignal: 'SIGQUIT',
        healthcheck: { test: ['CMD', 'true'], everyMs: 2000, retries: 3 },
      },
      diffIds: [digest('d')],
      history: [{ createdBy: 'ADD', emptyLayer: true }, { emptyLayer: false }],
    });
  });

  test('with null for what is empty is as one without', () => {
    const names = [
      'User',
      'Env',
      'Entrypoint',
      'Cmd',
      'WorkingDir',
      'ExposedPorts',
      'Volumes',
      'Labels',
      'Healthcheck',
    ];
    const empty = { ...plain, config: Object.fromEntries(names.map((name) => [name, null])), history: null };
    expect(parseConfig(bytes(empty), one)).toEqual(parseConfig(bytes(plain), one));
  });

  test('with a label called __proto__ changes no object', () => {
    const text = JSON.stringify({ ...plain, config: { Labels: {} } }).replace(
      '"Labels":{}',
      '"Labels":{"__proto__":"x"}',
    );
    const { labels } = parseConfig(bytes(text), one).defaults;
    expect(Object.getPrototypeOf(labels)).toBe(Object.prototype);
    expect(Object.keys(labels)).toEqual(['__proto__']);
  });

  test.each([
    ['fewer diff ids than layers', { ...plain, rootfs: { type: 'layers', diff_ids: [] } }],
    ['more diff ids than layers', { ...plain, rootfs: { type: 'layers', diff_ids: [digest('d'), digest('e')] } }],
    ['no rootfs', { ...plain, rootfs: undefined }],
    ['another rootfs', { ...plain, rootfs: { type: 'windows', diff_ids: [digest('d')] } }],
    ['a diff id that is none', { ...plain, rootfs: { type: 'layers', diff_ids: ['sha256:../x'] } }],
    ['a number in Env', { ...plain, config: { Env: [1] } }],
    ['NUL in an argument', { ...plain, config: { Cmd: ['a\0b'] } }],
    ['NUL in the user', { ...plain, config: { User: '0\0' } }],
    ['Env as a text', { ...plain, config: { Env: 'A=b' } }],
    ['a history that is no list', { ...plain, history: {} }],
    ['a negative duration', { ...plain, config: { Healthcheck: { Test: ['NONE'], Interval: -1 } } }],
  ])('with %s is refused', (_, value) => {
    expect(refusal(() => parseConfig(bytes(value), one)).code).toBe('TSV_IMAGE');
  });
});
