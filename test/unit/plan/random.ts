/** A small seeded generator (mulberry32, public domain), so that a failing case can be run again by its seed. */
export function random(seed: number): { below(limit: number): number; chance(probability: number): boolean } {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
  return { below: (limit) => Math.floor(next() * limit), chance: (probability) => next() < probability };
}

export const seeds = (count: number): number[] => Array.from({ length: count }, (_, index) => index + 1);
