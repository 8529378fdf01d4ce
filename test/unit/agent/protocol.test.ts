import { describe, expect, test } from 'vitest';
import { encodeFrame, frame, frameReader, lineReader } from '../../../src/agent/protocol.ts';
import { random, seeds } from '../plan/random.ts';

/** The bytes in pieces that end at the given places. */
const pieces = (bytes: Buffer, cuts: readonly number[]): Buffer[] => {
  const ends = [...new Set([...cuts, bytes.length])].sort((a, b) => a - b);
  return ends.map((end, i) => bytes.subarray(ends[i - 1] ?? 0, end));
};

describe('frames', () => {
  const sent = [
    [frame.stdin, 'hello'],
    [frame.eof, ''],
    [frame.stdout, 'ä😀\n\0'],
    [frame.exit, '{"code":0}'],
  ] as const;
  const bytes = Buffer.concat(sent.map(([type, text]) => encodeFrame(type, text)));
  const read = (chunks: readonly Buffer[]) => {
    const got: [number, string][] = [];
    const reader = frameReader((type, content) => got.push([type, content.toString('utf8')]));
    for (const chunk of chunks) reader(chunk);
    return got;
  };

  test('have a type, a length of four bytes, and their content', () => {
    expect([...encodeFrame(frame.resize, 'ab')]).toEqual([4, 0, 0, 0, 2, 97, 98]);
    expect([...encodeFrame(frame.eof)]).toEqual([6, 0, 0, 0, 0]);
    expect(encodeFrame(frame.stdout, Buffer.alloc(300)).readUInt32BE(1)).toBe(300);
  });

  test('arrive whole, wherever the stream is cut once', () => {
    for (let cut = 0; cut <= bytes.length; cut++) expect(read(pieces(bytes, [cut])), `cut at ${cut}`).toEqual(sent);
  });

  test('arrive whole byte by byte, and in any other pieces', () => {
    expect(read([...bytes].map((byte) => Buffer.from([byte])))).toEqual(sent);
    for (const seed of seeds(200)) {
      const { below } = random(seed);
      const cuts = Array.from({ length: below(8) }, () => below(bytes.length));
      expect(read(pieces(bytes, cuts)), `seed ${seed}`).toEqual(sent);
    }
  });

  test('larger than 16 MiB are refused by their head, before they are collected', () => {
    const head = Buffer.alloc(5);
    head.writeUInt32BE((1 << 24) + 1, 1);
    expect(() => read([head])).toThrow('frame too large');
    head.writeUInt32BE(0xffffffff, 1);
    expect(() => read([Buffer.concat([bytes, head])])).toThrow('frame too large');
    const largest = encodeFrame(frame.stdout, Buffer.alloc(1 << 24, 'x'));
    expect(read(pieces(largest, [3, 70_000])).map(([, text]) => text.length)).toEqual([1 << 24]);
  });
});

describe('lines', () => {
  const bytes = Buffer.from('{"a":"ä😀"}\n\n{"b":1}\nrest\nof bytes');
  const read = (chunks: readonly Buffer[], stopAt?: string) => {
    const lines: string[] = [];
    const rest: Buffer[] = [];
    const reader = lineReader(
      (line, stop) => {
        lines.push(line);
        if (line === stopAt) stop();
      },
      (more) => rest.push(more),
    );
    for (const chunk of chunks) reader(chunk);
    return { lines, rest: Buffer.concat(rest).toString('utf8') };
  };

  test('arrive whole, wherever the stream is cut; what has no end yet is kept back', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      expect(read(pieces(bytes, [cut])), `cut at ${cut}`).toEqual({
        lines: ['{"a":"ä😀"}', '', '{"b":1}', 'rest'],
        rest: '',
      });
    }
  });

  test('end where a line says stop; all bytes behind it come as they are, once', () => {
    for (let cut = 0; cut <= bytes.length; cut++) {
      for (const second of [cut, Math.min(cut + 1, bytes.length), bytes.length - 3]) {
        expect(read(pieces(bytes, [cut, second]), '{"b":1}'), `cut at ${cut} and ${second}`).toEqual({
          lines: ['{"a":"ä😀"}', '', '{"b":1}'],
          rest: 'rest\nof bytes',
        });
      }
    }
  });
});
