/**
 * Waits for a condition that nothing announces: looks, pauses, looks again. The one place in the tests that polls.
 * @returns the first value that is neither undefined nor false
 * @throws Error that says what did not happen, with the last thing seen
 */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  {
    timeoutMs = 10_000,
    everyMs = 20,
    seen = () => '',
  }: { timeoutMs?: number; everyMs?: number; seen?: () => string } = {},
): Promise<T> {
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await look();
    if (value !== undefined && value !== false) return value;
    if (performance.now() > deadline) {
      const last = seen();
      throw new Error(`${what}: not within ${timeoutMs} ms${last === '' ? '' : `\n${last}`}`);
    }
    await new Promise((resolve) => setTimeout(resolve, everyMs));
  }
}
