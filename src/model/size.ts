const units = [
  ['T', 2 ** 40],
  ['G', 2 ** 30],
  ['M', 2 ** 20],
  ['K', 2 ** 10],
] as const;

/** Bytes as a Tsfile has them, without a fraction: `2G`, `1536M`, `1000`. */
export function sizeText(bytes: number): string {
  const [letter, unit] = units.find(([, size]) => bytes > 0 && bytes % size === 0) ?? ['', 1];
  return `${bytes / unit}${letter}`;
}
