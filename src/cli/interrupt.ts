import type { Session } from './program.ts';

/**
 * For a command that goes on until somebody ends it: resolves with its exit code, 128 and the signal's number, or 0 when
 * whoever reads its output has enough (`| head`).
 */
export function untilInterrupted({ stdout }: Pick<Session, 'stdout'>): Promise<number> {
  return new Promise((resolve) => {
    process.once('SIGINT', () => resolve(130));
    process.once('SIGTERM', () => resolve(143));
    stdout.once('error', () => resolve(0));
  });
}
