import { describe, expect, test } from 'vitest';
import type { TsvError } from '../../../../src/model/errors.ts';
import { paxTime, printable } from '../../../../src/tar/fields.ts';
import { readTar } from '../../../support/read-tar.ts';
import { archiveEnd, paxContent, rawEntry, rawTar } from '../../../support/tar.ts';

/** Why an archive is refused, and with which code. */
function refusal(archive: Buffer): string {
  try {
    readTar(archive);
  } catch (error) {
    const { code, details } = error as TsvError;
    return `${code}: ${details.join('\n')}`;
  }
  return 'not refused';
}

const base256 = (value: bigint, length = 12): Buffer => {
  const bytes = Buffer.alloc(length);
  for (let i = length - 1, rest = value; i >= 0; i--, rest >>= 8n) bytes[i] = Number(rest & 0xffn);
  bytes[0] = ((bytes[0] ?? 0) & 0x7f) | 0x80;
  return bytes;
};

describe('a tar archive', () => {
  const archive = rawTar(
    { path: './', type: '5', mode: 0o755 },
    { path: 'a', content: 'hello', mode: 0o104755, uid: 1000, gid: 100, mtime: 12345 },
    { path: 'empty' },
    { path: 'exact', content: Buffer.alloc(1024, 'x') },
    { path: 'link', type: '2', target: '../a' },
    { path: 'hard', type: '1', target: 'a' },
    { path: 'pipe', type: '6' },
    { path: 'old/', type: '\0' },
    {
      path: 'short',
      content: 'pax',
      pax: {
        path: `deep/${'n'.repeat(300)}`,
        uid: '70000',
        mtime: '1700000000.123456789',
        'SCHILY.xattr.user.a=b': Buffer.from([0, 255, 10]),
        comment: '',
      },
    },
  );
  const all = readTar(archive);

  test('is read into its entries', () => {
    expect(all.map(({ path, type, target }) => [path, type, target])).toEqual([
      ['./', 'directory', ''],
      ['a', 'file', ''],
      ['empty', 'file', ''],
      ['exact', 'file', ''],
      ['link', 'symlink', '../a'],
      ['hard', 'hardlink', 'a'],
      ['pipe', 'fifo', ''],
      ['old/', 'directory', ''],
      [`deep/${'n'.repeat(300)}`, 'file', ''],
    ]);
    expect(all[1]).toMatchObject({ mode: 0o4755, uid: 1000, gid: 100, mtime: { seconds: 12345, nanoseconds: 0 } });
    expect(all[1]?.content.toString()).toBe('hello');
    expect(all[3]?.content.equals(Buffer.alloc(1024, 'x'))).toBe(true);
    expect(all[8]).toMatchObject({ uid: 70000, mtime: { seconds: 1_700_000_000, nanoseconds: 123_456_789 } });
  });

  test('keeps extended attributes byte by byte; the name ends at the first =', () => {
    expect(all[8]?.xattrs).toEqual([['user.a', 'b=\u0000\u00ff\n']]);
  });

  test.each([1, 7, 511, 512, 513, 4096])('is the same when it comes in pieces of %i bytes', (size) => {
    expect(readTar(archive, size)).toEqual(all);
  });

  test('may lack its end, and have anything after it', () => {
    expect(readTar(archive.subarray(0, -1024))).toEqual(all);
    expect(readTar(archive.subarray(0, -512))).toEqual(all);
    expect(readTar(Buffer.concat([archive, Buffer.from('garbage')]))).toEqual(all);
    expect(readTar(Buffer.alloc(0))).toEqual([]);
  });

  test('that is cut off anywhere else is refused', () => {
    for (const length of [1, 511, 513, 1023, 1025, 2047]) {
      expect(refusal(archive.subarray(0, length)), `${length} bytes`).toMatch(/TSV_IMAGE: the archive is cut off/);
    }
    const ahead = rawEntry({ type: 'x', content: paxContent({ path: 'a' }) });
    expect(refusal(ahead)).toMatch(/cut off/);
    expect(refusal(Buffer.concat([ahead, archiveEnd]))).toMatch(/an extended header without its entry/);
  });
});

describe('names', () => {
  test('may be in two parts, or longer by GNU records, and are bytes', () => {
    const header = rawEntry({ path: 'name', checksum: 'later' });
    header.write('folder', 345);
    const long = `${'d/'.repeat(200)}end`;
    const archive = Buffer.concat([
      fixed(header),
      rawEntry({ type: 'L', content: `${long}\0` }),
      rawEntry({ type: 'K', content: `${long}-target\0` }),
      rawEntry({ type: '2' }),
      rawEntry({ path: Buffer.from([0xff, 0xfe, 0x2f, 0x61]) }),
      archiveEnd,
    ]);
    expect(readTar(archive).map(({ path, target }) => [path, target])).toEqual([
      ['folder/name', ''],
      [long, `${long}-target`],
      ['\u00ff\u00fe/a', ''],
    ]);
  });

  test('of an extended header are for one entry only', () => {
    const archive = rawTar({ path: 'a', pax: { path: 'b', uid: '7' } }, { path: 'c' });
    expect(readTar(archive).map(({ path, uid }) => [path, uid])).toEqual([
      ['b', 7],
      ['c', 0],
    ]);
  });

  test('of a global header are passed over, as with every other reader of images', () => {
    const archive = rawTar({ path: 'g', type: 'g', content: paxContent({ path: '/etc/passwd' }) }, { path: 'c' });
    expect(readTar(archive).map(({ path }) => path)).toEqual(['c']);
  });

  test('with a NUL in an extended header are refused', () => {
    expect(refusal(rawTar({ pax: { path: 'good\0/../evil' } }))).toMatch(/TSV_IMAGE: a NUL byte in the record path/);
    expect(refusal(rawTar({ type: '2', pax: { linkpath: 'a\0b' } }))).toMatch(/a NUL byte in the record linkpath/);
  });

  test('are printed without anything that a terminal would obey', () => {
    expect(printable(Buffer.from('caf\u00e9\u001b[2J\n\u202etxt').toString('latin1'))).toBe(
      'caf\u00e9\ufffd[2J\ufffd\ufffdtxt',
    );
    expect(printable('x'.repeat(5000)).length).toBeLessThan(210);
  });
});

/** With the right checksum. */
function fixed(header: Buffer): Buffer {
  header.write('        ', 148);
  const sum = header.subarray(0, 512).reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148);
  return header;
}

describe('numbers', () => {
  test('in base 256 are read, also negative times', () => {
    const content = 'x'.repeat(1000);
    const header = rawEntry({ content, size: base256(1000n) });
    base256(-5n).copy(header, 136);
    const [entry] = readTar(Buffer.concat([fixed(header), archiveEnd]));
    expect(entry?.content.toString()).toBe(content);
    expect(entry?.mtime.seconds).toBe(-5);
  });

  test('S35: a negative or huge size is refused at once', () => {
    expect(refusal(rawTar({ size: base256(-1n) }))).toMatch(/TSV_IMAGE: a negative size/);
    expect(refusal(rawTar({ size: base256(-512n) }))).toMatch(/a negative size/);
    expect(refusal(rawTar({ size: base256(1n << 62n) }))).toMatch(/the size is out of range/);
    expect(refusal(rawTar({ size: Buffer.alloc(12, 0xff) }))).toMatch(/a negative size/);
    expect(refusal(rawTar({ size: Buffer.from('77777777777\0') }))).toMatch(/cut off/);
    expect(refusal(rawTar({ pax: { size: '-1' } }))).toMatch(/the size is not a number/);
    expect(refusal(rawTar({ pax: { size: '99999999999999999999' } }))).toMatch(/the size is not a number/);
    expect(refusal(rawTar({ type: 'x', size: base256(1n << 40n) }))).toMatch(
      /an extended header of 1099511627776 bytes/,
    );
    expect(refusal(rawTar({ type: 'L', size: base256(-1n) }))).toMatch(/a negative size/);
  });

  test('that are none are refused', () => {
    expect(refusal(rawTar({ size: Buffer.from('0x10\0       ') }))).toMatch(/the size is not a number/);
    expect(refusal(rawTar({ size: Buffer.from('12 34\0      ') }))).toMatch(/the size is not a number/);
    expect(refusal(rawTar({ pax: { uid: '-1' } }))).toMatch(/the uid is not a number/);
    expect(refusal(rawTar({ pax: { gid: '4294967295' } }))).toMatch(/the gid 4294967295 is out of range/);
    expect(refusal(rawTar({ pax: { mtime: '1e9' } }))).toMatch(/the time is not a number/);
  });

  test('of times are rounded down, with nine digits', () => {
    expect(paxTime('1.5')).toEqual({ seconds: 1, nanoseconds: 500_000_000 });
    expect(paxTime('-1.5')).toEqual({ seconds: -2, nanoseconds: 500_000_000 });
    expect(paxTime('-2')).toEqual({ seconds: -2, nanoseconds: 0 });
    expect(paxTime('3.1234567899')).toEqual({ seconds: 3, nanoseconds: 123_456_789 });
    expect(paxTime('3.')).toEqual({ seconds: 3, nanoseconds: 0 });
  });

  test('in an extended header hold for the content too: both readings are the same', () => {
    // CVE-2025-62518: who takes the header's size reads the content as entries.
    const inner = rawTar({ path: 'smuggled' });
    const outer = rawEntry({
      path: 'outer',
      content: inner,
      size: Buffer.from('00000000000\0'),
      pax: { size: String(inner.length) },
    });
    expect(readTar(Buffer.concat([outer, archiveEnd])).map(({ path }) => path)).toEqual(['outer']);
  });

  test('of what has no content do not count', () => {
    const archive = rawTar({ type: '5', path: 'd', size: Buffer.from('00000001000\0') }, { path: 'next' });
    expect(readTar(archive).map(({ path }) => path)).toEqual(['d', 'next']);
  });
});

describe('what is no archive', () => {
  test('is refused: a wrong checksum, an unknown type, zeros in between', () => {
    expect(refusal(rawTar({ checksum: '0000000\0' }))).toMatch(/TSV_IMAGE: the checksum of a header is wrong/);
    expect(refusal(Buffer.alloc(2048, 'text'))).toMatch(/not a number|checksum/);
    expect(refusal(rawTar({ path: 'a', type: 'M' }))).toMatch(/a: an entry of the unknown type 'M'/);
    const gap = Buffer.concat([rawEntry({}), Buffer.alloc(512), rawEntry({}), archiveEnd]);
    expect(refusal(gap)).toMatch(/a block of zeros between entries/);
  });

  test.each([
    ['a length that is too long', '99 path=a\n'],
    ['a length that is too short', '5 path=a\n'],
    ['no length', 'path=a\n'],
    ['no line end', '9 path=ab'],
    ['no value', '8 patha\n'],
    ['a negative length', '-9 path=a\n'],
    ['a length of many digits', `${'0'.repeat(30)}9 path=a\n`],
  ])('is refused: an extended header with %s', (_, content) => {
    expect(refusal(rawTar({ type: 'x', content }, {}))).toMatch(/a record of an extended header is malformed/);
  });
});

describe('sparse files', () => {
  const sparse = (pax: Record<string, string>, content: string | Buffer) =>
    rawTar({ path: 'x', pax, content }, { path: 'y' });
  const map10 = (text: string, data: string): Buffer =>
    Buffer.concat([Buffer.from(text.padEnd(512, '\0')), Buffer.from(data)]);
  const version1 = { 'GNU.sparse.major': '1', 'GNU.sparse.minor': '0', 'GNU.sparse.name': 'real' };

  test('of all three PAX formats are put together', () => {
    const forms = [
      // The keys of format 0.0 repeat: they are written by hand below.
      sparse({ 'GNU.sparse.size': '20', 'GNU.sparse.map': '2,3,10,2', 'GNU.sparse.name': 'real' }, 'abcde'),
      sparse({ ...version1, 'GNU.sparse.realsize': '20' }, map10('2\n2\n3\n10\n2\n', 'abcde')),
    ];
    for (const archive of forms) {
      const [first, second] = readTar(archive);
      expect(first).toMatchObject({ path: 'real', size: 20, sparse: true });
      expect(first?.content.toString('latin1')).toBe('\0\0abc\0\0\0\0\0de\0\0\0\0\0\0\0\0');
      expect(second?.path).toBe('y');
      expect(readTar(archive, 1)).toEqual(readTar(archive));
    }
    const pairs = ['offset=2', 'numbytes=3', 'offset=10', 'numbytes=2'].map((pair) => paxLine(`GNU.sparse.${pair}`));
    const records = [paxLine('GNU.sparse.size=20'), paxLine('GNU.sparse.numblocks=2'), ...pairs].join('');
    const [old] = readTar(rawTar({ type: 'x', content: records }, { path: 'x', content: 'abcde' }));
    expect(old?.content.toString('latin1')).toBe('\0\0abc\0\0\0\0\0de\0\0\0\0\0\0\0\0');
  });

  test.each([
    ['parts that overlap', { 'GNU.sparse.size': '20', 'GNU.sparse.map': '2,3,4,2' }, 'abcde'],
    ['parts beyond the end', { 'GNU.sparse.size': '5', 'GNU.sparse.map': '2,3,10,2' }, 'abcde'],
    ['less content than parts', { 'GNU.sparse.size': '20', 'GNU.sparse.map': '2,3,10,3' }, 'abcde'],
    ['more content than parts', { 'GNU.sparse.size': '20', 'GNU.sparse.map': '2,3' }, 'abcde'],
    ['half a pair', { 'GNU.sparse.size': '20', 'GNU.sparse.map': '2,3,10' }, 'abcde'],
    ['a negative place', { 'GNU.sparse.size': '20', 'GNU.sparse.map': '-2,5' }, 'abcde'],
    ['an unknown version', { 'GNU.sparse.major': '2', 'GNU.sparse.minor': '0' }, 'abcde'],
    ['a map longer than its entry', { ...version1, 'GNU.sparse.realsize': '20' }, '9\n'],
    ['a map that is no text', { ...version1, 'GNU.sparse.realsize': '20' }, Buffer.alloc(1024, 'x')],
    ['a map of a billion parts', { ...version1, 'GNU.sparse.realsize': '20' }, map10('1000000000\n', '')],
  ])('are refused with %s', (_, pax, content) => {
    expect(refusal(sparse(pax, content))).toMatch(/^TSV_IMAGE/);
  });

  test('of the old format are refused with places that are out of order, or negative', () => {
    const header = (offset: Buffer | string, length: Buffer | string): Buffer => {
      const entry = rawEntry({ type: 'S', content: 'abcde' });
      entry.write('ustar  \0', 257);
      Buffer.from(offset).copy(entry, 386);
      Buffer.from(length).copy(entry, 398);
      entry.write('00000000024\0', 483);
      return Buffer.concat([fixed(entry), archiveEnd]);
    };
    const [good] = readTar(header('00000000002\0', '00000000005\0'));
    expect(good?.content.toString('latin1')).toBe(`\0\0abcde${'\0'.repeat(13)}`);
    expect(refusal(header(base256(-1n), '00000000005\0'))).toMatch(/its holes overlap/);
    expect(refusal(header('00000000002\0', base256(-5n)))).toMatch(/its holes overlap/);
    expect(refusal(header('00000000023\0', '00000000005\0'))).toMatch(/its holes do not fit/);
  });
});

function paxLine(record: string): string {
  const length = record.length + 4; // two digits, a space, a line end
  return `${length} ${record}\n`;
}
