import { createHash } from 'node:crypto';
import {
  type BigIntStats,
  chmodSync,
  chownSync,
  createReadStream,
  lstatSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { templateFiles, templateParts, templatePaths, templatesFolder } from './layout.ts';

/** What a template is of. */
export interface TemplateNote {
  readonly key: string;
  readonly box: string;
  readonly boxDigest: string;
  readonly accel: 'kvm' | 'tcg';
  readonly memoryBytes: number;
  readonly cpus: number;
  /** ISO 8601. */
  readonly madeAt: string;
}

/** How a file was when it was known to be good. */
interface FileSeal {
  readonly sha256: string;
  readonly bytes: number;
  /** Inode, and nanoseconds of mtime and ctime: nobody can write a file and leave its ctime as it was (inode(7)). */
  readonly seen: string;
}

interface Metadata extends TemplateNote {
  readonly version: 1;
  /** What the files take up on the disk. */
  readonly bytes: number;
  readonly files: Readonly<Record<string, FileSeal>>;
}

/** A template that is whole, as far as its metadata says. */
export interface Template extends TemplateNote {
  readonly dir: string;
  readonly disk: string;
  readonly memory: string;
  readonly devices: string;
  readonly bytes: number;
}

/** The template with this key that is whole, if there is one. */
export function findTemplate(store: string, key: string): Template | undefined {
  const { folder, finished } = templatePaths(store, key);
  for (const name of namesIn(folder)) {
    const template = name.startsWith(finished) ? readTemplate(join(folder, name)) : undefined;
    if (template?.key === key) return template;
  }
  return undefined;
}

/** Every template of the store that is whole. */
export const listTemplates = (store: string): readonly Template[] => {
  const folder = templatesFolder(store);
  return namesIn(folder).flatMap((name) => readTemplate(join(folder, name)) ?? []);
};

function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder).filter((name) => !name.startsWith('.'));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return [];
    throw error;
  }
}

/** It is no template any more. Its disk stays, for the machines whose disks lie over it. */
export const disown = (dir: string): void => rmSync(join(dir, templateFiles.metadata), { force: true });

/** Somebody starts from it now. */
export const markUsed = ({ dir }: Template): void => utimesSync(dir, new Date(), new Date());

/** The template in the folder `dir`; undefined: there is none, or its metadata are torn. */
export function readTemplate(dir: string): Template | undefined {
  const metadata = readMetadata(dir);
  if (metadata === undefined) return undefined;
  const { version: _, files: _1, ...note } = metadata;
  return {
    ...note,
    dir,
    disk: join(dir, templateFiles.disk),
    memory: join(dir, templateFiles.memory),
    devices: join(dir, templateFiles.devices),
  };
}

function readMetadata(dir: string): Metadata | undefined {
  try {
    const value = JSON.parse(readFileSync(join(dir, templateFiles.metadata), 'utf8')) as Partial<Metadata> | null;
    const texts = [value?.key, value?.box, value?.boxDigest, value?.madeAt];
    const isWhole =
      value?.version === 1 &&
      texts.every((text) => typeof text === 'string') &&
      [value.bytes, value.memoryBytes, value.cpus].every((number) => typeof number === 'number') &&
      templateParts.every((name) => typeof value.files?.[name]?.sha256 === 'string');
    return isWhole ? (value as Metadata) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Makes the three files in `dir` a template: durable, with what they are now written down. It counts once `dir` has its
 * final name. Reads all of the memory: about a second.
 */
export async function sealTemplate(dir: string, note: TemplateNote): Promise<void> {
  const entries: [string, FileSeal][] = [];
  let bytes = 0;
  chmodSync(dir, 0o700);
  for (const name of templateParts) {
    const file = join(dir, name);
    // Made by a QEMU that may have been a user of its own, and read by others that are: each is shown the file, not the folder.
    chownSync(file, process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    chmodSync(file, 0o644);
    await syncFile(file);
    const sha256 = await hashOf(file);
    const stat = lstatSync(file, { bigint: true });
    bytes += Number(stat.blocks) * 512;
    entries.push([name, { sha256, bytes: Number(stat.size), seen: marks(stat) }]);
  }
  await writeMetadata(dir, { version: 1, ...note, bytes, files: Object.fromEntries(entries) });
}

/**
 * Whether the files are what they were. Looks at inode and times; only where these differ, as after a restored backup, the
 * content is read, and if that is right, the new ones are remembered. `thorough`: the content is always read.
 * @returns what is wrong; undefined: nothing
 */
export async function whyUnusable(
  dir: string,
  options: { readonly thorough?: boolean } = {},
): Promise<string | undefined> {
  const metadata = readMetadata(dir);
  if (metadata === undefined) return 'it is not complete';
  const files = { ...metadata.files };
  for (const name of templateParts) {
    const seal = metadata.files[name];
    const stat = lstatSync(join(dir, name), { bigint: true, throwIfNoEntry: false });
    if (seal === undefined || stat?.isFile() !== true) return `its ${name} is missing`;
    if (Number(stat.size) !== seal.bytes) return `its ${name} has another size`;
    if (marks(stat) === seal.seen && options.thorough !== true) continue;
    if ((await hashOf(join(dir, name))) !== seal.sha256) return `its ${name} has other bytes than it was made with`;
    files[name] = { ...seal, seen: marks(stat) };
  }
  if (Object.entries(files).some(([name, { seen }]) => seen !== metadata.files[name]?.seen))
    await writeMetadata(dir, { ...metadata, files });
  return undefined;
}

const marks = ({ ino, mtimeNs, ctimeNs }: BigIntStats): string => `${ino} ${mtimeNs} ${ctimeNs}`;

async function writeMetadata(dir: string, metadata: Metadata): Promise<void> {
  const file = join(dir, templateFiles.metadata);
  const staging = `${file}.${process.pid}`;
  writeFileSync(staging, `${JSON.stringify(metadata, null, 2)}\n`, { mode: 0o600 });
  await syncFile(staging);
  renameSync(staging, file);
}

async function syncFile(file: string): Promise<void> {
  const handle = await open(file, 'r');
  try {
    await handle.datasync();
  } finally {
    await handle.close();
  }
}

async function hashOf(file: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const piece of createReadStream(file, { highWaterMark: 1 << 20 })) hash.update(piece as Buffer);
  return hash.digest('hex');
}
