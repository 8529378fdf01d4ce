import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { formatLock, type LockEntry, type LockFile, parseLock } from '../../../src/lockfile/format.ts';
import { TsvError } from '../../../src/model/errors.ts';

const digest = (letter: string): LockEntry['digest'] => `sha256:${letter.repeat(64)}`;
const entry = (letter: string, more: Partial<LockEntry> = {}): LockEntry => ({
  digest: digest(letter),
  date: '2026-01-02T03:04:05Z',
  source: 'docker.io',
  ...more,
});
const lock: LockFile = {
  boxes: { 'debian-12': entry('d', { source: 'recipe' }) },
  images: {
    'docker.io/library/nginx:1.27': entry('a', { version: '1.27.3 "final"', size: 72_345_678 }),
    'docker.io/library/alpine:3': entry('b'),
  },
};

const text = `# Which boxes and images the Tsfile's machines are made from. Written by tsv; it belongs into git.
# \`tsv update\` takes newer ones, \`tsv up --locked\` fails where this file would have to change.
version: 1
boxes:
  "debian-12":
    date: "2026-01-02T03:04:05Z"
    digest: "sha256:${'d'.repeat(64)}"
    source: "recipe"
images:
  "docker.io/library/alpine:3":
    date: "2026-01-02T03:04:05Z"
    digest: "sha256:${'b'.repeat(64)}"
    source: "docker.io"
  "docker.io/library/nginx:1.27":
    date: "2026-01-02T03:04:05Z"
    digest: "sha256:${'a'.repeat(64)}"
    size: 72345678
    source: "docker.io"
    version: "1.27.3 \\"final\\""
`;

const failure = (broken: string): TsvError => {
  try {
    parseLock(broken, 'Tsfile.lock');
  } catch (error) {
    if (error instanceof TsvError) return error;
    throw error;
  }
  throw new Error('this was expected to fail');
};

describe('a lock file', () => {
  test('has a fact in each line, in a stable order', () => {
    expect(formatLock(lock)).toBe(text);
    const reversed = { boxes: lock.boxes, images: Object.fromEntries(Object.entries(lock.images).reverse()) };
    expect(formatLock(reversed)).toBe(text);
  });

  test('is read as it was written, with other line ends and comments, too', () => {
    expect(parseLock(text, 'Tsfile.lock')).toEqual(lock);
    expect(parseLock(`${text.replaceAll('\n', '\r\n')}\r\n  # a remark\r\n\r\n`, 'Tsfile.lock')).toEqual(lock);
    expect(parseLock(formatLock({ boxes: {}, images: {} }), 'Tsfile.lock')).toEqual({ boxes: {}, images: {} });
  });

  test('is YAML that says the same to others', () => {
    expect(parse(text)).toEqual({ version: 1, ...lock });
  });

  test('merged by git without a conflict is whole', () => {
    const added = text.replace(
      '  "docker.io/library/nginx',
      `  "docker.io/library/busybox:1":\n    date: "2026-01-02T03:04:05Z"\n    digest: "${digest('c')}"\n    source: "docker.io"\n  "docker.io/library/nginx`,
    );
    expect(Object.keys(parseLock(added, 'Tsfile.lock').images)).toHaveLength(3);
  });

  test.each([
    ['<<<<<<< HEAD', 'two versions of it were merged, and git left both here'],
    ['=======', 'two versions of it were merged, and git left both here'],
    ['||||||| base', 'two versions of it were merged, and git left both here'],
    ['    color: "red"', 'nothing is known of `color`'],
    ['    digest: "sha256:abc"', 'this is no digest'],
    [`    digest: "${digest('f')}"`, '`digest` is there twice'],
    ['    size: "many"', 'this is no size'],
    ['    size: 1e9', 'this is no size'],
    ['    source: docker.io', 'this is no source'],
    ['   source: "x"', 'it is indented in another way than tsv does it'],
    ['\tsource: "x"', 'it is no line of a lock file'],
    ['images: {}', 'it is neither `boxes` nor `images`'],
    ['volumes:', 'it is neither `boxes` nor `images`'],
    ['version: 2', 'this tsv knows version 1 of the file'],
    ['  "debian-12":', 'this name is there twice'],
    ['  debian:', 'a name in quotes and a colon are expected'],
    ['  "open:', 'it is no line of a lock file'],
    ['- x', 'it is no line of a lock file'],
  ])('with the line %j is refused at that line', (line, why) => {
    // After the digest of the box.
    const lines = text.split('\n');
    const broken = [...lines.slice(0, 7), line, ...lines.slice(7)].join('\n');
    const error = failure(broken);
    expect(error.code).toBe('TSV_LOCK_FILE');
    expect(error.message).toBe(`Tsfile.lock:8: ${why}`);
    expect(error.details).toEqual([`8 | ${line}`]);
    expect(error.hint).toContain('git checkout Tsfile.lock');
  });

  test('without what every entry has is refused at that entry', () => {
    const broken = text.replace(/ {4}digest: "sha256:b+"\n/, '');
    expect(failure(broken).message).toBe('Tsfile.lock:10: `digest` is missing in it');
  });

  test('without its version, as an empty one is, is refused', () => {
    expect(failure('').message).toBe('Tsfile.lock:1: the file has no `version`');
  });

  test('may have names that are keys of every object', () => {
    const odd: LockFile = { boxes: {}, images: Object.fromEntries([['__proto__', entry('a')]]) };
    const read = parseLock(formatLock(odd), 'Tsfile.lock');
    expect(Object.keys(read.images)).toEqual(['__proto__']);
    expect(({} as { digest?: string }).digest).toBeUndefined();
  });
});
