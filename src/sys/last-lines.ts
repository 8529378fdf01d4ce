import { consoleNames, RotatedLog } from './rotated-log.ts';

const blockBytes = 64 << 10;
const newline = 10;

/**
 * Where the last `count` lines begin, between `begin` and `end`: reads backwards, and no more than it needs. A last line
 * counts with or without its line break.
 */
export function startOfLastLines(log: Pick<RotatedLog, 'read'>, begin: number, end: number, count: number): number {
  if (count === 0) return end;
  let wanted = count;
  for (let blockEnd = end; blockEnd > begin; ) {
    const blockBegin = Math.max(begin, blockEnd - blockBytes);
    const block = readAll(log, blockBegin, blockEnd);
    // The break at the very end ends the last line; it does not begin another.
    for (let from = blockEnd === end ? block.length - 2 : block.length - 1; from >= 0; from--) {
      from = block.lastIndexOf(newline, from);
      if (from < 0) break;
      wanted--;
      if (wanted === 0) return blockBegin + from + 1;
    }
    blockEnd = blockBegin;
  }
  return begin;
}

/** All bytes of a part of the log, over file borders. */
function readAll(log: Pick<RotatedLog, 'read'>, begin: number, end: number): Buffer {
  const all = Buffer.alloc(end - begin);
  let got = 0;
  while (got < all.length) {
    const count = log.read(all.subarray(got), begin + got);
    if (count === 0) break;
    got += count;
  }
  return all.subarray(0, got);
}

/**
 * The end of what a machine printed, which is anything: not made harmless.
 * @param machineDir `.ts-vm/machines/NAME`
 * @returns at most so many lines of so many bytes together, without trailing empty ones; none when it printed nothing
 */
export function lastLines(machineDir: string, limit: { readonly lines: number; readonly bytes: number }): string[] {
  const log = RotatedLog.open(machineDir, consoleNames);
  try {
    const begin = Math.max(log.begin, log.end - limit.bytes);
    const text = readAll(log, begin, log.end).toString('utf8').trimEnd();
    return text === '' ? [] : text.split('\n').slice(-limit.lines);
  } finally {
    log.close();
  }
}
