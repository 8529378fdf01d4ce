import { join } from 'node:path';
import { type CgroupFiles, readIfThere } from './files.ts';

/** Bytes, nanoseconds or a number of things; beyond 2^53 exact as a bigint. */
export type Count = number | bigint;

/** Reads one folder's files; what is not there reads as undefined. */
export interface Reader {
  text(file: string): string | undefined;
  count(file: string): Count | undefined;
  /** Lines of `key number`. */
  table(file: string): Record<string, Count> | undefined;
  /** `2MB` and so on: the page sizes that the folder has hugetlb files for. */
  pageSizes(): string[];
}

export function reader(folder: string, files: CgroupFiles): Reader {
  const text = (file: string) => readIfThere(files, join(folder, file));
  return {
    text,
    count: (file) => {
      const content = text(file);
      return content === undefined ? undefined : parseCount(content);
    },
    table: (file) => {
      const content = text(file);
      if (content === undefined) return undefined;
      const lines = content.split('\n').map((line) => line.split(' '));
      return Object.fromEntries(lines.flatMap(([key, value]) => (key && value ? [[key, parseCount(value)]] : [])));
    },
    pageSizes: () => hugePageSizes(files),
  };
}

/** As the kernel names them in the names of its files: kB below one MB, and so on, by 1024. */
function hugePageSizes(files: CgroupFiles): string[] {
  return files.children('/sys/kernel/mm/hugepages').flatMap((name) => {
    const kB = Number(/^hugepages-(\d+)kB$/.exec(name)?.[1]);
    if (!(kB > 0)) return [];
    return [kB >= 1 << 20 ? `${kB >> 20}GB` : kB >= 1 << 10 ? `${kB >> 10}MB` : `${kB}KB`];
  });
}

/** `max` is the highest number that there is, as runc prints it. */
export function parseCount(text: string): Count {
  const trimmed = text.trim();
  if (trimmed === 'max') return 2n ** 64n - 1n;
  const number = Number(trimmed);
  return Number.isSafeInteger(number) || !/^-?\d+$/.test(trimmed) ? number || 0 : BigInt(trimmed);
}

/** The object without members that are 0, empty or undefined. */
export function nonZero<T extends Readonly<Record<string, unknown>>>(object: T): Partial<T> {
  const isNothing = (value: unknown) =>
    value === undefined || value === 0 || value === 0n || (Array.isArray(value) && value.length === 0);
  return Object.fromEntries(Object.entries(object).filter(([, value]) => !isNothing(value))) as Partial<T>;
}

/** `0-2,7` as [0, 1, 2, 7]. */
export function parseList(text = ''): number[] {
  return text
    .split(',')
    .filter((part) => part !== '')
    .flatMap((part) => {
      const [first = 0, last = first] = part.split('-').map(Number);
      return Array.from({ length: last - first + 1 }, (_, i) => first + i);
    });
}
