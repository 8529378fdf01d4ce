import { TsvError } from '../../model/errors.ts';
import { errnoName } from '../../sys/errno.ts';
import { printable } from '../../tar/fields.ts';
import { refused } from './names.ts';

/** Errors that only an archive's own names and links can cause. */
const ofTheArchive: Readonly<Record<string, string>> = {
  EEXIST: 'it stands where a symbolic link leads to nothing',
  ELOOP: 'symbolic links that lead in a circle',
  ENAMETOOLONG: 'its name is too long',
  ENOENT: 'a name or a target that no file can have',
  ENOTDIR: 'it is in something that is not a folder',
  EMLINK: 'too many hard links',
  EFBIG: 'a file larger than the file system can hold',
};

const codeOf = (error: unknown): string | undefined =>
  typeof error === 'number' ? errnoName(error) : (error as NodeJS.ErrnoException).code;

/** What a failed system call means for the layer that is being unpacked. `error`: of node:fs, or an errno. */
export function failureOf(error: unknown, what: string, path: string): unknown {
  const why = error instanceof TsvError ? undefined : ofTheArchive[codeOf(error) ?? ''];
  return why === undefined ? storeFailure(error, what, path) : refused(path, why);
}

/** What a failed system call means that has nothing to do with what is in the archive. */
export function storeFailure(error: unknown, what: string, path: string): unknown {
  const code = codeOf(error);
  if (error instanceof TsvError || code === undefined) return error;
  const full = code === 'ENOSPC' || code === 'EDQUOT';
  return new TsvError('TSV_STORE', full ? 'the disk of the store is full' : 'a layer could not be put into the store', {
    details: [`${printable(path)}: ${what}: ${code}`],
    hint: full
      ? 'make room with tsv store gc, or put the store on a larger disk with TSV_STORE=FOLDER'
      : 'the store has to be a folder of yours, on a file system of Linux',
    cause: error,
  });
}

/** The result of a system call, where it is one. @throws what a failed one means for the layer: {@link failureOf} */
export function check(result: number, what: string, path: string): number {
  if (result < 0) throw failureOf(-result, what, path);
  return result;
}
