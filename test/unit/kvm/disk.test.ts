import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { checkBoxDisk, checkDataDisk, checkOverlay } from '../../../providers/kvm/disk.ts';
import { parseQcow2Header } from '../../../src/store/qcow2.ts';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'tsv-disk-'));
});
afterEach(() => rmSync(dir, { recursive: true }));

/** A qcow2 version 3 header as in QEMU's docs/interop/qcow2.txt. */
function header(
  options: {
    backing?: string;
    format?: string;
    dataFileBit?: boolean;
    dataFileName?: string;
    virtualBytes?: number;
  } = {},
): Buffer {
  const extension = (type: number, text: string) => {
    const bytes = Buffer.alloc(8 + Math.ceil(text.length / 8) * 8);
    bytes.writeUInt32BE(type, 0);
    bytes.writeUInt32BE(text.length, 4);
    bytes.write(text, 8);
    return bytes;
  };
  const fixed = Buffer.alloc(104);
  fixed.write('QFI\xfb', 'latin1');
  fixed.writeUInt32BE(3, 4);
  fixed.writeUInt32BE(16, 20);
  fixed.writeBigUInt64BE(BigInt(options.virtualBytes ?? 1 << 30), 24);
  if (options.dataFileBit) fixed.writeBigUInt64BE(4n, 72);
  fixed.writeUInt32BE(104, 100);
  const extensions = [
    ...(options.format === undefined ? [] : [extension(0xe2792aca, options.format)]),
    ...(options.dataFileName === undefined ? [] : [extension(0x44415441, options.dataFileName)]),
    Buffer.alloc(8),
  ];
  const head = Buffer.concat([fixed, ...extensions]);
  if (options.backing === undefined) return head;
  head.writeBigUInt64BE(BigInt(head.length), 8);
  head.writeUInt32BE(options.backing.length, 16);
  return Buffer.concat([head, Buffer.from(options.backing)]);
}

function image(content: Buffer): string {
  const path = join(dir, 'image');
  writeFileSync(path, content);
  return path;
}

const refused = expect.objectContaining({ code: 'TSV_VM_START' });

describe("a box's disk", () => {
  const check =
    (content: Buffer, format: 'raw' | 'qcow2' = 'qcow2') =>
    () =>
      checkBoxDisk({ path: image(content), format, virtualBytes: 1 << 30 });

  test('that stands alone is taken', () => {
    expect(check(header())).not.toThrow();
  });

  test.each([
    ['a backing file', header({ backing: '/etc/shadow', format: 'raw' })],
    ['a json: backing file', header({ backing: 'json:{"driver":"nbd"}' })],
    ['an external data file', header({ dataFileBit: true, dataFileName: '/etc/shadow' })],
    ['an external data file that only the extension names', header({ dataFileName: '/etc/shadow' })],
    ['an external data file that only the bit announces', header({ dataFileBit: true })],
    ['no qcow2 header', Buffer.alloc(4096)],
    ['a header that is cut short', header().subarray(0, 90)],
    [
      'a backing file name outside of the header',
      (() => {
        const bad = header();
        bad.writeBigUInt64BE(1n << 40n, 8);
        return bad;
      })(),
    ],
  ])('S36 with %s is refused before any QEMU tool sees it', (_, content) => {
    expect(check(content)).toThrow(refused);
  });

  test('S37 that is raw is raw, even with the header of a qcow2 image in it', () => {
    expect(check(header({ backing: '/etc/shadow' }), 'raw')).not.toThrow();
  });
});

describe("a machine's own disk", () => {
  const disk = { path: '/store/box/disk.raw', format: 'raw' as const, virtualBytes: 1 << 30 };

  test('is the overlay over its box', () => {
    expect(() => checkOverlay(image(header({ backing: disk.path, format: 'raw' })), disk)).not.toThrow();
  });

  test.each([
    ['over another file', header({ backing: '/etc/shadow', format: 'raw' })],
    ['over the box as another format', header({ backing: disk.path, format: 'qcow2' })],
    ['over the box with a format to be guessed', header({ backing: disk.path })],
    ['over nothing', header()],
    ['with data elsewhere', header({ backing: disk.path, format: 'raw', dataFileBit: true })],
  ])('S52 %s is refused', (_, content) => {
    expect(() => checkOverlay(image(content), disk)).toThrow(refused);
  });

  test('may lie over the disk of a template or of a layer, and these over each other, as long as the box is at the bottom', () => {
    const at = (...path: string[]) => join(dir, 'store', ...path, 'disk.qcow2');
    const put = (file: string, backing: string, format: string) => {
      mkdirSync(dirname(file), { recursive: true });
      writeFileSync(file, header({ backing, format }));
      return file;
    };
    const store = join(dir, 'store');
    const template = put(at('templates', 't.1'), disk.path, 'raw');
    const layer = put(at('cache', 'map', `${'a'.repeat(64)}.1.01234567`), template, 'qcow2');
    const over = (backing: string) => () => checkOverlay(image(header({ backing, format: 'qcow2' })), disk, store);
    for (const good of [template, layer]) expect(over(good)).not.toThrow();
    // S52: a way around, another name, another store, a bottom that is not the box, a circle.
    expect(over(`${store}/templates/x/../t.1/disk.qcow2`)).toThrow(refused);
    expect(over(put(join(store, 'templates', 't.1', 'memory'), disk.path, 'raw'))).toThrow(refused);
    expect(over(put(join(dir, 'templates', 't.1', 'disk.qcow2'), disk.path, 'raw'))).toThrow(refused);
    expect(over(put(at('cache', 'map', 'else'), disk.path, 'raw'))).toThrow(refused);
    expect(over(put(at('templates', 'bad'), '/etc/shadow', 'raw'))).toThrow(refused);
    expect(over(put(at('templates', 'circle'), at('templates', 'circle'), 'qcow2'))).toThrow(refused);
    expect(() => checkOverlay(image(header({ backing: template, format: 'qcow2' })), disk)).toThrow(refused);
  });

  test('S52 that is a symbolic link is refused', () => {
    const target = image(header({ backing: disk.path, format: 'raw' }));
    symlinkSync(target, join(dir, 'link'));
    expect(() => checkOverlay(join(dir, 'link'), disk)).toThrow(refused);
  });

  test('for data stands alone and tells its size', () => {
    expect(checkDataDisk(image(header({ virtualBytes: 2 ** 41 }))).virtualBytes).toBe(2 ** 41);
    expect(() => checkDataDisk(image(header({ backing: '/x', format: 'raw' })))).toThrow(refused);
  });
});

test('what is no qcow2 image has no header', () => {
  expect(parseQcow2Header(Buffer.from('QFI'))).toBeUndefined();
  expect(parseQcow2Header(Buffer.alloc(65536))).toBeUndefined();
});
