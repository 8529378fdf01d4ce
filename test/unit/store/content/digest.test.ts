import { describe, expect, test } from 'vitest';
import type { Digest } from '../../../../src/model/image.ts';
import { digestOf, digestParts, hasher, isDigest, parseDigest } from '../../../../src/store/content/digest.ts';
import { emptyStore } from '../../../support/content.ts';

const empty = 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855';

describe('a digest', () => {
  test('is sha256 or sha512 with its hex', () => {
    expect(parseDigest(`sha256:${empty}`)).toBe(`sha256:${empty}`);
    expect(digestParts(`sha512:${'0'.repeat(128)}`)).toEqual({ algorithm: 'sha512', hex: '0'.repeat(128) });
    expect(digestOf(Buffer.alloc(0))).toBe(`sha256:${empty}`);
  });

  test('is made of the bytes in the order in which they came', () => {
    for (const algorithm of ['sha256', 'sha512'] as const) {
      const like: Digest = `${algorithm}:${'0'.repeat(algorithm === 'sha256' ? 64 : 128)}`;
      const hash = hasher(like);
      hash.update(Buffer.from('ab'));
      hash.update(Buffer.from('c'));
      const start = { sha256: 'sha256:ba7816bf8f01cfea', sha512: 'sha512:ddaf35a193617aba' }[algorithm];
      expect(hash.digest().startsWith(start)).toBe(true);
      expect(isDigest(like)).toBe(true);
    }
  });

  const wrong = [
    'sha256:../../x',
    `sha256:../${empty}`,
    `sha256:${empty}/`,
    `sha256:${empty}\n`,
    `sha256:${empty}\0`,
    `sha256:${empty.slice(1)}`,
    `sha256:${empty}0`,
    `sha256:${empty.toUpperCase()}`,
    `SHA256:${empty}`,
    `sha1:${'0'.repeat(40)}`,
    `md5:${'0'.repeat(32)}`,
    `sha512:${empty}`,
    `../sha256:${empty}`,
    empty,
    'sha256:',
    '',
    42,
    null,
    undefined,
    { toString: () => `sha256:${empty}` },
    [`sha256:${empty}`],
  ];
  test.each(wrong.map((value) => [value]))('S29 is not %j', (value) => {
    expect(isDigest(value)).toBe(false);
    expect(() => parseDigest(value)).toThrow(expect.objectContaining({ code: 'TSV_DIGEST' }));
  });

  test('S29 that leads elsewhere never becomes a path, whatever the types say', () => {
    const { store } = emptyStore();
    const evil = 'sha256:../../x' as Digest;
    const descriptor = { mediaType: 'x', digest: evil, size: 1 };
    const refusal = expect.objectContaining({ code: 'TSV_DIGEST' });
    expect(() => store.path(evil)).toThrow(refusal);
    expect(() => store.has(descriptor)).toThrow(refusal);
    expect(() => store.read(descriptor)).toThrow(refusal);
    expect(() => store.remove(evil)).toThrow(refusal);
    expect(() => store.removePartial({ name: '../index', bytes: 0, changedAt: 0 })).toThrow();
  });
});
