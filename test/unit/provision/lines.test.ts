import { describe, expect, it } from 'vitest';
import { LineSplitter, printable } from '../../../src/provision/lines.ts';

function lines(...chunks: (string | Buffer)[]): string[] {
  const out: string[] = [];
  const splitter = new LineSplitter((line) => out.push(line));
  for (const chunk of chunks) splitter.push(Buffer.from(chunk as string));
  splitter.end();
  return out;
}

describe('output in lines', () => {
  it('is cut at line feeds wherever the chunks end', () => {
    expect(lines('a', 'b\nc\n', '\nd')).toEqual(['ab', 'c', '', 'd']);
    expect(lines('')).toEqual([]);
  });

  it('takes \\r\\n as one line end, also across chunks', () => {
    expect(lines('a\r\nb\r', '\nc')).toEqual(['a', 'b', 'c']);
  });

  it('shows the last state of what overwrites itself', () => {
    expect(lines('10%\r50%\r', '100%\ndone\r')).toEqual(['100%', 'done']);
  });

  it('puts characters together that were cut between chunks', () => {
    const bytes = Buffer.from('ä😀\n');
    expect(lines(...[...bytes].map((byte) => Buffer.from([byte])))).toEqual(['ä😀']);
  });

  it('cuts a line without end into pieces and holds no more than one', () => {
    const out = lines('x'.repeat(8191), '😀'.repeat(8192), '\nend');
    expect(out.join('')).toBe(`${'x'.repeat(8191)}${'😀'.repeat(8192)}end`);
    expect(Math.max(...out.map(({ length }) => length))).toBe(8192);
    expect(out.every((line) => Buffer.from(line).toString() === line)).toBe(true);
  });

  it('makes everything visible that could do something to a terminal, except colours', () => {
    expect(printable('\x1b[1;31mred\x1b[0m\ttab')).toBe('\x1b[1;31mred\x1b[0m\ttab');
    expect(printable('\x1b]0;title\x07\x1b[2J\0\x9b31m')).toBe('\\x1b]0;title\\x07\\x1b[2J\\x00\\x9b31m');
    expect(lines(Buffer.from([0xff, 0xfe, 0x0a]))).toEqual(['\ufffd\ufffd']);
  });
});
