import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import type { Digest } from '../../../../src/model/image.ts';
import { changeNames } from '../../../../src/store/image/change-names.ts';
import { lookUp } from '../../../../src/store/image/lookup.ts';
import { mediaTypes } from '../../../../src/store/image/media-types.ts';
import { type NamedImage, readNames, withName } from '../../../../src/store/image/names.ts';

const digest = (digits: string): Digest => `sha256:${digits.padEnd(64, '0')}`;
const entry = (reference: string | undefined, digits: string, architecture = 'amd64'): NamedImage => ({
  ...(reference === undefined ? {} : { reference }),
  descriptor: {
    mediaType: mediaTypes.manifest,
    digest: digest(digits),
    size: 7,
    platform: { os: 'linux', architecture },
  },
  forMachines: false,
});

let store: string;
beforeEach(() => {
  store = mkdtempSync(join(tmpdir(), 'tsv-names-'));
});
afterEach(() => rmSync(store, { recursive: true, force: true }));
const file = () => join(store, 'images', 'index.json');

describe('the names of images', () => {
  test('are read as they were written, with what others have noted', async () => {
    const full: NamedImage = {
      ...entry('docker.io/library/a:1', 'aa'),
      created: '2024-01-01T00:00:00Z',
      bytes: 12,
      source: digest('bb'),
      forMachines: true,
    };
    expect(readNames(store)).toEqual([]);
    await changeNames(store, new AbortController().signal, () => [full, entry(undefined, 'cc')]);
    expect(readNames(store)).toEqual([full, entry(undefined, 'cc')]);
    const index = JSON.parse(readFileSync(file(), 'utf8')) as { manifests: { annotations: Record<string, string> }[] };
    const [first] = index.manifests;
    if (first !== undefined) first.annotations['org.example.note'] = 'kept';
    writeFileSync(file(), JSON.stringify(index));
    await changeNames(store, new AbortController().signal, (names) => [...names]);
    expect(readFileSync(file(), 'utf8')).toContain('"org.example.note": "kept"');
  });

  test('keep their place when they lead elsewhere; each platform has one of its own', () => {
    const names = [entry('a', '1'), entry('b', '2'), entry('c', '3')];
    expect(withName(names, entry('b', '9')).map(({ descriptor }) => descriptor.digest)).toEqual(
      ['1', '9', '3'].map(digest),
    );
    expect(withName(names, entry('b', '9', 'arm64'))).toHaveLength(4);
    expect(withName([entry(undefined, '1'), entry(undefined, '2')], entry('x', '1'))).toEqual([
      entry('x', '1'),
      entry(undefined, '2'),
    ]);
  });

  test.each(['', '{', '[]', '{"manifests":1}', '{"manifests":[{"digest":"sha256:../x"}]}'])(
    'in a file of %j are told as unreadable',
    (text) => {
      mkdirSync(join(store, 'images'));
      writeFileSync(file(), text);
      expect(() => readNames(store)).toThrow(expect.objectContaining({ code: 'TSV_STORE' }));
    },
  );
});

describe('a word for an image', () => {
  const names = [
    entry('docker.io/library/nginx:1.27', 'abc1'),
    entry('docker.io/library/nginx:latest', 'abc1'),
    { ...entry('ghcr.io/x/y:1', 'abd2'), source: digest('eee') },
    entry('docker.io/library/fade:latest', '99'),
    entry('latest', '77'),
  ];
  const meant = (word: string) => lookUp(names, word).entries.map(({ reference }) => reference);

  test('is a name, else the beginning of a digest', () => {
    expect(meant('nginx')).toEqual(['docker.io/library/nginx:latest']);
    expect(meant('nginx:1.27')).toEqual(['docker.io/library/nginx:1.27']);
    expect(meant('abc1')).toEqual(['docker.io/library/nginx:1.27', 'docker.io/library/nginx:latest']);
    expect(meant(digest('abd2'))).toEqual(['ghcr.io/x/y:1']);
    expect(meant(`ghcr.io/x/y@${digest('eee')}`)).toEqual(['ghcr.io/x/y:1']);
    expect(meant('fade')).toEqual(['docker.io/library/fade:latest']);
    expect(meant('latest')).toEqual(['latest']);
  });

  test('that means nothing is answered with the nearest name; one that means two, with both', () => {
    expect(() => lookUp(names, 'ngnix:1.27')).toThrow(
      expect.objectContaining({ code: 'TSV_IMAGE_UNKNOWN', hint: expect.stringContaining('nginx:1.27') }),
    );
    expect(() => lookUp([...names, entry('docker.io/library/z:1', 'abcf')], 'abc')).toThrow(
      expect.objectContaining({ code: 'TSV_USAGE' }),
    );
    expect(() => lookUp(names, 'ab')).toThrow(expect.objectContaining({ code: 'TSV_IMAGE_UNKNOWN' }));
  });
});
