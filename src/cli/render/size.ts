/** `0 B`, `812 kB`, `67.3 MB`, `1.2 GB`: powers of ten, as disks and registries count. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : 1;
  return `${value.toFixed(digits)} ${units[unit]}`;
}

/** `3 weeks ago`; the text as it is where it is no time, and nothing for none. */
export function formatAge(time: string | undefined, now: number): string {
  if (time === undefined) return '';
  const then = Date.parse(time);
  if (Number.isNaN(then)) return time;
  const seconds = Math.max(0, (now - then) / 1000);
  const steps = [
    ['year', 365 * 86_400],
    ['month', 30 * 86_400],
    ['week', 7 * 86_400],
    ['day', 86_400],
    ['hour', 3600],
    ['minute', 60],
  ] as const;
  for (const [name, length] of steps) {
    const amount = Math.floor(seconds / length);
    // Two weeks say more than one month does, up to two of the larger.
    if (amount >= (name === 'minute' || name === 'hour' || name === 'day' ? 1 : 2))
      return `${amount} ${name}${amount === 1 ? '' : 's'} ago`;
  }
  return 'just now';
}

/** `0 B`, `12.5 MiB`, `64 MiB`: powers of two, as memory is counted, and as the Tsfile's `64M` is meant. */
export function formatMemory(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = Math.max(0, bytes);
  let unit = 0;
  while (value >= 1000 && unit < units.length - 1) {
    value /= 1024;
    unit += 1;
  }
  const whole = unit === 0 || value >= 99.95 || Number.isInteger(value);
  return `${value.toFixed(whole ? 0 : 1)} ${units[unit]}`;
}
