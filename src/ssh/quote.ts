import { TsvError } from '../model/errors.ts';

/**
 * One word for a POSIX shell that comes out byte for byte (Shell Command Language, 2.2.2 Single-Quotes).
 * @throws TSV_USAGE for a NUL, which no argument of a program can hold.
 */
export function quoteWord(word: string): string {
  if (word.includes('\0')) throw new TsvError('TSV_USAGE', 'an argument holds a NUL character');
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", "'\\''")}'`;
}

/** A command line that a POSIX shell splits into exactly these words. */
export const quoteWords = (words: readonly string[]): string => words.map(quoteWord).join(' ');
