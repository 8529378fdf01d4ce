/**
 * Writes, and waits until it is written: a slow reader slows us down, and nothing piles up in memory.
 * @returns false: the reader has gone (EPIPE)
 */
export async function writeAll(stream: NodeJS.WriteStream, blocks: readonly Buffer[]): Promise<boolean> {
  for (const block of blocks) {
    const error = await new Promise<Error | null | undefined>((resolve) => stream.write(block, resolve));
    if (error == null) continue;
    if ((error as NodeJS.ErrnoException).code === 'EPIPE' || stream.destroyed) return false;
    throw error;
  }
  return true;
}
