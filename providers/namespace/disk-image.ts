import {
  closeSync,
  existsSync,
  fstatSync,
  fsyncSync,
  ftruncateSync,
  mkdirSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import { sizeText } from '../../src/model/size.ts';
import { type CommandResult, mustRun, run } from '../../src/sys/command.ts';
import { O } from '../../src/sys/flags.ts';
import { syncFolder } from '../../src/sys/sync-folder.ts';

/** The image file of one disk, and who is told of it. */
export interface DiskImage {
  readonly file: string;
  /** For messages: `web: its disk data`. */
  readonly words: string;
  readonly sizeBytes: number;
  /** Who owns the root of a new file system, by the container's ids. */
  readonly owner: { readonly uid: number; readonly gid: number };
}

/** It grows, or was growing when something ended that. */
const growing = (file: string): string => `${file}.growing`;

/** It is being made, or was when something ended that: half a disk, which nobody takes for one. */
export const unfinished = (file: string): string => `${file}.new`;

/** Everything of an image, in the order in which it can be moved: what is half moved is not taken for something whole. */
export const imageFiles = (file: string): readonly string[] => [growing(file), file];

/**
 * Makes the image: a sparse file with an empty ext4. It has its name only when it is complete, and on disk.
 * @throws TSV_CONTAINER_START with the path, TSV_HOST_MISSING without mke2fs(8)
 */
export async function makeImage({ file, words, sizeBytes, owner }: DiskImage): Promise<void> {
  const made = unfinished(file);
  try {
    mkdirSync(dirname(file), { recursive: true, mode: 0o700 });
    rmSync(made, { force: true });
    const fd = openSync(made, O.RDWR | O.CREAT | O.EXCL | O.NOFOLLOW | O.CLOEXEC, 0o600);
    try {
      ftruncateSync(fd, sizeBytes);
      await mustRun(
        [...mke2fs, `lazy_itable_init=1,lazy_journal_init=1,nodiscard,root_owner=${owner.uid}:${owner.gid}`, made],
        {
          code: 'TSV_CONTAINER_START',
          message: `${words} could not be made`,
          hint: roomHint(file),
        },
      );
      fsyncSync(fd);
    } finally {
      closeSync(fd);
    }
    renameSync(made, file);
    syncFolder(dirname(file));
  } catch (error) {
    rmSync(made, { force: true });
    throw failed(`${words} could not be made`, file, error);
  }
}

/** No reserved blocks; on an error, nothing is written any more; blocks large enough to grow far. */
const mke2fs = ['mke2fs', '-q', '-F', '-t', 'ext4', '-b', '4096', '-I', '256', '-m', '0', '-e', 'remount-ro', '-E'];

/**
 * Opens an image, for reading and writing.
 * @throws TSV_CONTAINER_START when it is no file, not this user's alone, or has no ext4: it is left as it is
 */
export function openImage({ file, words }: DiskImage): number {
  let fd: number | undefined;
  try {
    fd = openSync(file, O.RDWR | O.NOFOLLOW | O.NONBLOCK | O.CLOEXEC);
    const stat = fstatSync(fd);
    if (!stat.isFile()) throw notUsed(words, file, 'it is not a file');
    // A project's folder may come from anywhere, and the kernel trusts a file system: those that tsv made are nobody else's.
    if (stat.uid !== process.getuid?.() || (stat.mode & 0o077) !== 0)
      throw notUsed(words, file, 'others could have made it', `chmod 600 ${file}   # if it is yours`);
    if (!hasExt4(fd)) throw notUsed(words, file, 'it has no ext4 file system');
    return fd;
  } catch (error) {
    if (fd !== undefined) closeSync(fd);
    throw failed(`${words} cannot be used`, file, error);
  }
}

/** The superblock's magic number: the kernel's documentation of ext4, "Super Block". */
function hasExt4(fd: number): boolean {
  const magic = Buffer.alloc(2);
  return readSync(fd, magic, 0, 2, 1024 + 0x38) === 2 && magic.readUInt16LE() === 0xef53;
}

/**
 * Mends what a crash left (e2fsck(8)), and grows the file system where it is to be larger (resize2fs(8)). Nobody else may
 * have the image in use; both programs keep it open, and so its lock.
 * @returns what was mended, for people
 * @throws TSV_CONTAINER_START when it cannot be mended or grown, TSV_UNSUPPORTED when it is too large
 */
export async function prepareImage(image: DiskImage, fd: number): Promise<string | undefined> {
  const { file, words, sizeBytes } = image;
  const present = fstatSync(fd).size;
  if (present > sizeBytes) {
    throw new TsvError('TSV_UNSUPPORTED', `${words} cannot become smaller`, {
      details: [`${file} has ${sizeText(present)}, and the Tsfile says ${sizeText(sizeBytes)}`],
      hint: `size: ${sizeText(present)} in the Tsfile; or remove the file, with all that is in it`,
    });
  }
  const grows = present < sizeBytes || existsSync(growing(file));
  if (grows) {
    try {
      writeFileSync(growing(file), '', { mode: 0o600 });
      syncFolder(dirname(file));
      ftruncateSync(fd, sizeBytes);
    } catch (error) {
      throw failed(`${words} could not grow`, file, error);
    }
  }
  const mended = await check(image, fd, grows);
  if (!grows) return mended;
  await mustRun(
    ['resize2fs', file],
    { code: 'TSV_CONTAINER_START', message: `${words} could not grow`, hint: roomHint(file) },
    { holds: fd },
  );
  fsyncSync(fd);
  rmSync(growing(file));
  return mended;
}

/** Exit codes of e2fsck(8): 1, 2 for what was corrected; from 4 on, it was not, or could not be looked at. */
async function check({ file, words }: DiskImage, fd: number, all: boolean): Promise<string | undefined> {
  let result: CommandResult;
  try {
    result = await run(['e2fsck', '-p', ...(all ? ['-f'] : []), file], { holds: fd });
  } catch (cause) {
    throw new TsvError('TSV_HOST_MISSING', `${words} cannot be checked: the program 'e2fsck' is not installed`, {
      hint: 'tsv doctor names the package',
      cause,
    });
  }
  const { code, signal, stdout, stderr } = result;
  if (code === 0) return undefined;
  const said = `${stdout}${stderr}`.trim().split('\n').slice(-8);
  if (code === 1 || code === 2) return `${words} was mended by e2fsck: ${said.at(-1) ?? ''}`;
  throw new TsvError('TSV_CONTAINER_START', `${words} has errors that only you can mend`, {
    details: [`e2fsck -p ${file}: ${signal ?? `exit code ${code}`}`, ...said],
    hint: `cp --sparse=always ${file} /some/where   # a copy, then: e2fsck -f ${file}`,
  });
}

const roomHint = (file: string): string => `look at the free space with: df -h ${dirname(file)}`;

const notUsed = (
  words: string,
  file: string,
  why: string,
  hint = 'put a good image in its place, or move it away: tsv up makes a new, empty one',
): TsvError => new TsvError('TSV_CONTAINER_START', `${words} is not used: ${why}`, { details: [file], hint });

/** An error of the host's, with the path; a TsvError stays as it is. */
function failed(message: string, file: string, error: unknown): TsvError {
  if (error instanceof TsvError) return error;
  return new TsvError('TSV_CONTAINER_START', message, {
    details: [`${file}: ${error instanceof Error ? error.message : String(error)}`],
    hint: roomHint(file),
    cause: error,
  });
}
