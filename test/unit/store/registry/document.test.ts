import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { checkDocument } from '../../../../src/store/registry/document.ts';

const ociManifest = 'application/vnd.oci.image.manifest.v1+json';
const ociIndex = 'application/vnd.oci.image.index.v1+json';
const dockerManifest = 'application/vnd.docker.distribution.manifest.v2+json';
const dockerList = 'application/vnd.docker.distribution.manifest.list.v2+json';

const hash = (algorithm: 'sha256' | 'sha512', bytes: Buffer) =>
  `${algorithm}:${createHash(algorithm).update(bytes).digest('hex')}` as const;

const check = (value: unknown, contentType: string | undefined, more: object = {}) =>
  checkDocument({
    bytes: Buffer.from(typeof value === 'string' ? value : JSON.stringify(value)),
    contentType,
    contentDigest: undefined,
    wanted: undefined,
    name: 'host/app:1',
    ...more,
  });

describe('a document of a registry', () => {
  test.each([
    [{ schemaVersion: 2, config: {}, layers: [] }, ociManifest],
    [{ schemaVersion: 2, mediaType: ociManifest, config: {}, layers: [] }, ociManifest],
    [{ schemaVersion: 2, mediaType: dockerManifest, config: {}, layers: [] }, `${dockerManifest}; charset=utf-8`],
    [{ schemaVersion: 2, manifests: [] }, ociIndex],
    [{ schemaVersion: 2, mediaType: dockerList, manifests: [] }, dockerList.toUpperCase()],
  ])('%j is taken as what its Content-Type says', (value, contentType) => {
    const bytes = Buffer.from(JSON.stringify(value));
    const { descriptor } = check(value, contentType);
    expect(descriptor).toEqual({
      mediaType: contentType.toLowerCase().replace(/;.*/, ''),
      digest: hash('sha256', bytes),
      size: bytes.length,
    });
  });

  test.each([
    ['both kinds at once, as an index', { manifests: [], layers: [], config: {} }, ociIndex, 'at once'],
    ['both kinds at once, as a manifest', { manifests: [], layers: [], config: {} }, ociManifest, 'at once'],
    ['an index with a config', { manifests: [], config: {} }, ociIndex, 'at once'],
    ['a null beside the list', { manifests: [], layers: null }, dockerList, 'at once'],
    ['another type inside', { mediaType: ociIndex, manifests: [] }, ociManifest, 'says itself'],
    ['another type inside, of the same kind', { mediaType: dockerManifest, layers: [] }, ociManifest, 'says itself'],
    ['a type inside that is no text', { mediaType: 7, layers: [] }, ociManifest, 'says itself'],
    ['an index that says it is a manifest', { manifests: [] }, ociManifest, 'has no layers'],
    ['a manifest that says it is an index', { layers: [], config: {} }, dockerList, 'has no manifests'],
    ['no type', { layers: [] }, undefined, 'none of an image'],
    ['any JSON', { mediaType: ociManifest, layers: [] }, 'application/json', 'none of an image'],
    [
      'schema 1',
      { schemaVersion: 1, fsLayers: [] },
      'application/vnd.docker.distribution.manifest.v1+prettyjws',
      'schema 1',
    ],
    ['no JSON', '{', ociManifest, 'no JSON'],
    ['no object', '[]', ociManifest, 'no JSON object'],
    ['nothing', 'null', ociManifest, 'no JSON object'],
  ])('S30 with %s is refused', (_, value, contentType, why) => {
    expect(() => check(value, contentType)).toThrow(
      expect.objectContaining({ code: 'TSV_IMAGE', details: [expect.stringContaining(why)] }),
    );
  });

  test('of bytes that are no UTF-8 is refused', () => {
    const bytes = Buffer.concat([Buffer.from('{"layers":[],"x":"'), Buffer.from([0xff, 0xfe]), Buffer.from('"}')]);
    expect(() => check('', ociManifest, { bytes })).toThrow(expect.objectContaining({ code: 'TSV_IMAGE' }));
  });

  test('that is a web page tells of the network, not of the image', () => {
    expect(() => check('<html>', 'text/html; charset=utf-8')).toThrow(
      expect.objectContaining({ code: 'TSV_REGISTRY' }),
    );
  });

  const good = { layers: [] };
  const bytes = Buffer.from(JSON.stringify(good));

  test('has the digest that was asked for, whatever its algorithm', () => {
    for (const wanted of [hash('sha256', bytes), hash('sha512', bytes)])
      expect(check(good, ociManifest, { wanted }).descriptor.digest).toBe(wanted);
    for (const contentDigest of [hash('sha256', bytes), hash('sha512', bytes)])
      expect(check(good, ociManifest, { contentDigest }).descriptor.digest).toBe(hash('sha256', bytes));
  });

  test.each([
    ['another than was asked for', { wanted: hash('sha256', Buffer.from('x')) }],
    ['another than was asked for, of sha512', { wanted: hash('sha512', Buffer.from('x')) }],
    ['another than its registry gives', { contentDigest: hash('sha256', Buffer.from('x')) }],
    [
      'what was asked for, and its registry gives another',
      { wanted: hash('sha256', bytes), contentDigest: hash('sha512', Buffer.from('x')) },
    ],
  ])('with the digest that is %s is refused', (_, more) => {
    expect(() => check(good, ociManifest, more)).toThrow(expect.objectContaining({ code: 'TSV_DIGEST' }));
  });

  test.each(['sha256:../../x', `sha256:${'A'.repeat(64)}`, 'latest', `md5:${'a'.repeat(32)}`])(
    'S29 whose registry gives the digest %s is refused',
    (contentDigest) => {
      expect(() => check(good, ociManifest, { contentDigest })).toThrow(
        expect.objectContaining({ code: 'TSV_DIGEST' }),
      );
    },
  );
});
