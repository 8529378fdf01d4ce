import {
  accessSync,
  chownSync,
  closeSync,
  constants,
  existsSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  rmdirSync,
  watch,
  writeSync,
} from 'node:fs';

/** What this part asks of the kernel's cgroup file systems (cgroups(7)); a test puts a kernel of its own in its place. */
export interface CgroupFiles {
  read(file: string): string;
  /** One write(2) to a file that is there. @throws the kernel's answer, such as EBUSY, EINVAL or ENOENT */
  write(file: string, value: string): void;
  exists(path: string): boolean;
  writable(folder: string): boolean;
  /** false: it was there. */
  makeFolder(folder: string): boolean;
  removeFolder(folder: string): void;
  /** Names of the cgroups directly below; none when the folder is gone. */
  children(folder: string): string[];
  chown(path: string, uid: number): void;
  /** Calls back when the kernel says that the file has changed (cgroup.events). The returned function ends it. */
  onChange(file: string, listener: () => void): () => void;
}

export const kernelFiles: CgroupFiles = {
  read: (file) => readFileSync(file, 'utf8'),
  write: (file, value) => {
    const fd = openSync(file, constants.O_WRONLY); // never O_CREAT: what the kernel does not offer stays ENOENT
    try {
      writeSync(fd, value);
    } finally {
      closeSync(fd);
    }
  },
  exists: existsSync,
  writable: (folder) => {
    try {
      accessSync(folder, constants.W_OK);
      return true;
    } catch {
      return false;
    }
  },
  makeFolder: (folder) => unlessErrno(['EEXIST'], () => mkdirSync(folder, 0o755)),
  removeFolder: (folder) => rmdirSync(folder),
  children: (folder) => {
    try {
      return readdirSync(folder, { withFileTypes: true })
        .filter((entry) => entry.isDirectory())
        .map(({ name }) => name);
    } catch (error) {
      if (isGone(error)) return [];
      throw error;
    }
  },
  chown: (path, uid) => chownSync(path, uid, -1),
  onChange: (file, listener) => {
    const watcher = watch(file, { persistent: true }, listener);
    watcher.on('error', listener); // the listener looks for itself
    return () => watcher.close();
  },
};

/** Runs `work`; false when it failed with one of these. */
export function unlessErrno(codes: readonly string[], work: () => void): boolean {
  try {
    work();
    return true;
  } catch (error) {
    if (codes.includes(errnoOf(error) ?? '')) return false;
    throw error;
  }
}

/** `EBUSY` of a failed call; undefined for any other error. */
export const errnoOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code;

/** ENODEV is what an open file of a removed cgroup answers. */
export const isGone = (error: unknown): boolean => ['ENOENT', 'ENODEV'].includes(errnoOf(error) ?? '');

/** What may not be changed here: no right, or mounted read-only. */
export const isForbidden = (error: unknown): boolean => ['EACCES', 'EPERM', 'EROFS'].includes(errnoOf(error) ?? '');

/** The file's text without the last line end; undefined when the kernel has no such file, or the cgroup is gone. */
export function readIfThere(files: CgroupFiles, file: string): string | undefined {
  try {
    return files.read(file).trimEnd();
  } catch (error) {
    // EOPNOTSUPP: a file that has no meaning in this cgroup, such as cgroup.procs of a threaded one.
    if (isGone(error) || ['EOPNOTSUPP', 'ENOTSUP'].includes(errnoOf(error) ?? '')) return undefined;
    throw error;
  }
}
