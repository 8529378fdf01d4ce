/*
 * `console.times`, beside `console.log`: when the machine printed. Records of 16 bytes, little endian: u64 offset in
 * console.log at which a chunk begins, u64 time in nanoseconds since 1970. A record is written before its chunk, so all
 * bytes that are there have theirs; of several records for one offset the last one counts.
 */
export const timesRecordBytes = 16;

export function timesRecord(offset: number, timeNs: bigint): Buffer {
  const record = Buffer.alloc(timesRecordBytes);
  record.writeBigUInt64LE(BigInt(offset), 0);
  record.writeBigUInt64LE(timeNs, 8);
  return record;
}

/** Reads bytes of a file, like pread(2): how many there were. */
export type ReadAt = (into: Buffer, offset: number) => number;

const pageRecords = 4096;
const nearRecords = 16;

/** The records of a file, of any size: one page of them is in memory. */
export class Times {
  readonly #read: ReadAt;
  readonly #page = Buffer.alloc(pageRecords * timesRecordBytes);
  #first = 0;
  #loaded = 0;
  #count = 0;
  /** What {@link chunkOf} found last. */
  #near = 0;

  constructor(read: ReadAt) {
    this.#read = read;
  }

  /** Whole records in a file of this size. */
  resize(bytes: number): void {
    this.#count = Math.floor(bytes / timesRecordBytes);
  }

  get count(): number {
    return this.#count;
  }

  offset(index: number): number {
    const at = this.#at(index);
    return this.#page.readUInt32LE(at) + this.#page.readUInt32LE(at + 4) * 2 ** 32;
  }

  timeNs(index: number): bigint {
    return this.#page.readBigUInt64LE(this.#at(index) + 8);
  }

  /** The chunk that holds the byte at `offset`; -1 where no record says. Quick for who goes from chunk to chunk. */
  chunkOf(offset: number): number {
    const near = this.#near;
    if (near < this.#count && this.offset(near) <= offset)
      for (let index = near; index < near + nearRecords; index++)
        if (index + 1 === this.#count || this.offset(index + 1) > offset) {
          this.#near = index;
          return index;
        }
    let [low, high] = [-1, this.#count - 1];
    while (low < high) {
      const middle = low + ((high - low + 1) >> 1);
      if (this.offset(middle) <= offset) low = middle;
      else high = middle - 1;
    }
    this.#near = Math.max(low, 0);
    return low;
  }

  /** The first chunk that is not older than `timeNs`; undefined: all are. Looks at each: a clock may have been set back. */
  firstSince(timeNs: bigint): number | undefined {
    for (let index = 0; index < this.#count; index++) if (this.timeNs(index) >= timeNs) return index;
    return undefined;
  }

  /** The last chunk that is not younger than `timeNs`; undefined: all are. */
  lastUntil(timeNs: bigint): number | undefined {
    for (let index = this.#count - 1; index >= 0; index--) if (this.timeNs(index) <= timeNs) return index;
    return undefined;
  }

  /** Where a record is in the page, which is loaded when needed. */
  #at(index: number): number {
    if (index < 0 || index >= this.#count) throw new RangeError(`record ${index} of ${this.#count}`);
    if (index < this.#first || index >= this.#first + this.#loaded) {
      this.#first = index - (index % pageRecords);
      this.#loaded = Math.floor(this.#read(this.#page, this.#first * timesRecordBytes) / timesRecordBytes);
      if (index >= this.#first + this.#loaded) throw new RangeError(`record ${index} is not in the file`);
    }
    return (index - this.#first) * timesRecordBytes;
  }
}
