export const isSet = (value: number | undefined): value is number => value !== undefined && value !== 0;

/** As the kernel reads a signed 64-bit number; beyond its range, the nearest end of it. */
export const signed = (value: number): string => `${clamp(value, -(2n ** 63n), 2n ** 63n - 1n)}`;
export const unsigned = (value: number): string => `${clamp(value, 0n, 2n ** 64n - 1n)}`;
/** `max` for -1, as cgroup v2 writes "no limit". */
export const orMax = (value: number): string => (value < 0 ? 'max' : signed(value));

function clamp(value: number, low: bigint, high: bigint): bigint {
  const whole = BigInt(Math.trunc(value));
  return whole < low ? low : whole > high ? high : whole;
}
