import { decimal, malformed } from './fields.ts';

/** A part of a sparse file that has content. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

/**
 * The map of a sparse file in PAX records (GNU tar manual, Sparse Formats): 0.0 has a pair of records for each part, 0.1
 * has all in one, 1.0 has it at the beginning of the data. undefined: not a sparse file.
 */
export function sparseMap(records: readonly (readonly [string, string])[]): Extent[] | 'inData' | undefined {
  if (!records.some(([key]) => key.startsWith('GNU.sparse.'))) return undefined;
  const values = new Map(records);
  const major = values.get('GNU.sparse.major') ?? '0';
  if (major !== '0') {
    if (major === '1' && values.get('GNU.sparse.minor') === '0') return 'inData';
    throw malformed('a sparse file of an unknown format');
  }
  const list = values.get('GNU.sparse.map');
  const numbers =
    list !== undefined
      ? list.split(',').filter((text) => text !== '')
      : records.filter(([key]) => key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes').map(([, text]) => text);
  return pairs(numbers.map((text) => decimal(text, 'a number of a sparse file')));
}

function pairs(numbers: readonly number[]): Extent[] {
  if (numbers.length % 2 !== 0) throw malformed('the map of a sparse file is cut off');
  return Array.from({ length: numbers.length / 2 }, (_, i) => ({
    offset: numbers[2 * i] ?? 0,
    length: numbers[2 * i + 1] ?? 0,
  }));
}

/** The map of format 1.0: the number of parts, then their offsets and lengths, a line each, filled up to a block. */
export class SparseText {
  private text = '';
  private lines = 0;
  private count: number | undefined;
  private readonly limit: number;

  constructor(limitBytes: number) {
    this.limit = limitBytes;
  }

  /** The next block; the parts once the map is complete. */
  push(block: Buffer): Extent[] | undefined {
    this.text += block.toString('latin1');
    if (this.text.length > this.limit) throw malformed('a sparse file of too many parts');
    for (const byte of block) if (byte === 0x0a) this.lines++;
    // The first line is in the first block.
    this.count ??= decimal(this.text.slice(0, this.text.indexOf('\n')), 'the number of parts of a sparse file');
    const wanted = 1 + 2 * this.count;
    if (this.lines < wanted) return undefined;
    const numbers = this.text.split('\n', wanted).slice(1);
    return pairs(numbers.map((line) => decimal(line, 'a number of a sparse file')));
  }
}
