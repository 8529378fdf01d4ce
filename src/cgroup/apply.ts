import { join } from 'node:path';
import { TsvError } from '../model/errors.ts';
import { parseList } from './counts.ts';
import { type CgroupFiles, errnoOf, isForbidden, isGone, readIfThere } from './files.ts';
import type { Setting, Write } from './setting.ts';

/** A limit that is not in force, though it was asked for. */
export interface MissingLimit {
  /** By its v1 name: `memory`, `cpu`, `blkio`, … */
  readonly controller: string;
  /** `linux.resources.memory.limit` */
  readonly field: string;
  readonly reason: string;
  /** What the kernel answered; absent: there was nothing to ask. */
  readonly errno?: string;
}

/** What becomes of a limit that cannot be set: thrown, or collected. */
export type OnMissing = (missing: MissingLimit, details?: readonly string[], cause?: unknown) => void;

export function throwMissing({ field, reason }: MissingLimit, details: readonly string[] = [], cause?: unknown): never {
  throw new TsvError('TSV_CGROUP', `${field}: ${reason}`, { details, ...(cause === undefined ? {} : { cause }) });
}

/** Writes the settings; `folderOf` says where a controller's files are. */
export function applySettings(
  settings: readonly Setting[],
  folderOf: (controller: string) => string,
  onMissing: OnMissing,
  files: CgroupFiles,
): void {
  let deferred: Write[] = [];
  const again = () => {
    for (const setting of deferred) {
      attempt(setting, (error) => fail(setting, error));
    }
    deferred = [];
  };
  const fail = (setting: Write, error: unknown) => {
    const failure = explain(setting, folderOf(setting.controller), error, files);
    const errno = errnoOf(error);
    const missing = { controller: setting.controller, field: setting.field, reason: failure.reason };
    onMissing(errno === undefined ? missing : { ...missing, errno }, failure.details, error);
  };
  const attempt = (setting: Write, failed: (error: unknown) => void) => {
    try {
      writeSetting(setting, folderOf(setting.controller), files);
    } catch (error) {
      if (setting.optional !== true || !isGone(error)) failed(error);
    }
  };
  for (const [i, setting] of settings.entries()) {
    if ('impossible' in setting) {
      onMissing({ controller: setting.controller, field: setting.field, reason: setting.impossible });
    } else {
      attempt(setting, (error) => {
        if (setting.deferrable === true && errnoOf(error) === 'EINVAL') deferred.push(setting);
        else fail(setting, error);
      });
    }
    if (settings[i + 1]?.controller !== setting.controller) again();
  }
}

function writeSetting(setting: Write, folder: string, files: CgroupFiles): void {
  const { file, value } = chosen(setting, folder, files);
  const path = join(folder, file);
  if (setting.notBelow !== undefined) {
    const used = BigInt(files.read(join(folder, setting.notBelow.file)).trim());
    if (used > setting.notBelow.limit) throw Object.assign(new Error(`${used} bytes are in use`), { code: 'EBUSY' });
  }
  const text = typeof value === 'string' ? value : value(files.read(path).trim());
  files.write(path, text);
  if (setting.effective !== undefined && /^[\d,-]+$/.test(text)) {
    const used = readIfThere(files, join(folder, setting.effective)) ?? '';
    const asked = parseList(text);
    if (!parseList(used).every((number) => asked.includes(number))) throw new NotThere(used);
  }
  if (setting.readBack !== true) return;
  const now = files.read(path).trim();
  if (now !== text) throw new OutOfRange(now);
}

/** The kernel took another value than it was given. */
class OutOfRange extends Error {
  readonly nearest: string;
  constructor(nearest: string) {
    super(`the kernel made ${nearest} of it`);
    this.nearest = nearest;
  }
}

/** The kernel took a list and has nothing of it. */
class NotThere extends Error {
  readonly instead: string;
  constructor(instead: string) {
    super(`${instead} is in use instead`);
    this.instead = instead;
  }
}

function chosen({ writes }: Write, folder: string, files: CgroupFiles): Write['writes'][number] {
  const found = writes.find(({ file }) => files.exists(join(folder, file))) ?? writes[0];
  if (found === undefined) throw new TypeError('a setting without a file');
  return found;
}

function explain(
  setting: Write,
  folder: string,
  error: unknown,
  files: CgroupFiles,
): { reason: string; details: string[] } {
  const { file, value } = chosen(setting, folder, files);
  const errno = errnoOf(error);
  const text = typeof value === 'string' ? `'${value}'` : 'its new value';
  const details = [`writing ${text} to ${join(folder, file)}: ${errno ?? (error as Error).message}`];
  if (error instanceof OutOfRange) return { reason: `the nearest that the kernel allows is ${error.nearest}`, details };
  if (error instanceof NotThere)
    return { reason: `there is none of them here; the kernel uses ${error.instead} instead`, details };
  if (errno === 'EBUSY' && setting.controller === 'memory') {
    const used = ['memory.usage_in_bytes', 'memory.current']
      .map((name) => readIfThere(files, join(folder, name)))
      .find((number) => number !== undefined);
    return { reason: `more is in use already${used === undefined ? '' : ` (${used} bytes)`}: EBUSY`, details };
  }
  if (errno === 'EBUSY') return { reason: 'it is in use: EBUSY', details };
  if (errno === 'ENOENT') {
    const names = setting.writes.map((entry) => entry.file).join(' nor ');
    return { reason: `this kernel has no ${names} here`, details };
  }
  if (isForbidden(error)) return { reason: `it may not be set here: ${errno}`, details };
  if (errno === 'ENODEV' || errno === 'ENXIO') return { reason: `there is no such device: ${errno}`, details };
  return { reason: `the kernel does not accept it: ${errno ?? (error as Error).message}`, details };
}
