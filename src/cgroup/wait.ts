import { type CgroupFiles, readIfThere } from './files.ts';

/**
 * Waits until the file's text is as wanted; the kernel says when it changes. A file that is gone reads as undefined.
 * false: not within the time.
 */
export async function untilFile(
  file: string,
  isDone: (text: string | undefined) => boolean,
  timeoutMs: number,
  files: CgroupFiles,
): Promise<boolean> {
  if (isDone(readIfThere(files, file))) return true;
  return new Promise((resolve, reject) => {
    const finish = (end: () => void) => {
      clearTimeout(timer);
      stop();
      end();
    };
    const look = () => {
      try {
        if (isDone(readIfThere(files, file))) finish(() => resolve(true));
      } catch (error) {
        finish(() => reject(error));
      }
    };
    const timer = setTimeout(() => finish(() => resolve(false)), timeoutMs);
    let stop = () => {};
    try {
      stop = files.onChange(file, look);
    } catch {
      // It is gone: looking once more says so.
    }
    look(); // it may have changed before we listened
  });
}

/** A pause of a few milliseconds at most, longer with each attempt: for what the kernel does not announce. */
export function pause(attempt: number): Promise<void> {
  return new Promise((resolve) => {
    if (attempt < 4) setImmediate(resolve);
    else setTimeout(resolve, Math.min(attempt - 3, 20));
  });
}

/** The number behind `key` in lines such as `populated 1`. */
export function keyed(text: string | undefined, key: string): string | undefined {
  return text
    ?.split('\n')
    .find((line) => line.startsWith(`${key} `))
    ?.slice(key.length + 1)
    .trim();
}
