import {
  chmodSync,
  closeSync,
  fsyncSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { basename, dirname, join, relative } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { BoxRef } from '../../model/provider.ts';
import type { UserMap } from '../../sys/userns.ts';
import { removeTree } from '../remove-tree.ts';
import { type BuildContext, buildContainerPart, buildVmPart, finishPart, insideWorkshop } from './build.ts';
import { partDigest } from './digest.ts';
import { type HostApt, readHostApt } from './host-apt.ts';
import { partFiles, partPaths } from './layout.ts';
import { withLock } from './lock.ts';
import { boxRef, type PartMetadata, readMetadata } from './metadata.ts';
import { type BoxKind, type Recipe, readRecipe } from './recipe.ts';
import { requirePrograms } from './requirements.ts';
import { withWorkshop } from './workshop.ts';

export interface EnsureOptions {
  /** Folder of recipes. */
  readonly boxesDir: string;
  readonly store: string;
  readonly name: string;
  readonly kind: BoxKind;
  readonly map: UserMap;
  readonly signal: AbortSignal;
  /** Short texts for people: `base system: 42/136 packages`. Not called when the box is already built. */
  readonly progress: (text: string) => void;
}

/**
 * The part `kind` of a box, built if the store does not have it. However many processes ask, one builds and the others
 * wait. A part counts when its folder has its final name: a build works in a folder `.PART.XXXXXX` and renames it at
 * the very end, and the next build of this part removes what a killed one left.
 * @throws TSV_UNKNOWN_BOX, TSV_BOX_BUILD, TSV_HOST_MISSING, TSV_CANCELLED, TSV_UNSUPPORTED (a recipe without `vm`).
 */
export async function ensureBox(options: EnsureOptions): Promise<BoxRef> {
  const recipe = await readRecipe(options.boxesDir, options.name);
  if (options.kind === 'vm' && recipe.vm === undefined) {
    throw new TsvError('TSV_UNSUPPORTED', `the box ${recipe.name} is for containers only`, {
      hint: `its recipe ${recipe.dir} has no section vm`,
    });
  }
  return ensurePart(recipe, await readHostApt(recipe.suite), options);
}

async function ensurePart(recipe: Recipe, apt: HostApt, options: EnsureOptions): Promise<BoxRef> {
  const { store, kind, map, signal, progress } = options;
  const digest = partDigest(recipe, kind, map, apt);
  const paths = partPaths(store, recipe.name, kind, digest);
  const final = join(paths.boxDir, paths.part);
  closeToOthers(dirname(paths.boxDir));
  const there = findPart(final);
  if (there !== undefined) return there;
  requirePrograms(kind, map);
  // The VM is made from the container's root file system; without one, this builds it first, under its own lock.
  const base = kind === 'vm' ? await ensurePart(recipe, apt, { ...options, kind: 'container' }) : undefined;
  mkdirSync(dirname(paths.boxDir), { recursive: true, mode: 0o700 });
  mkdirSync(paths.boxDir, { recursive: true });
  const waiting = () => progress('another tsv builds this box: waiting');
  return withLock(paths.lock, signal, waiting, async () => {
    const sinceThen = findPart(final);
    if (sinceThen !== undefined) return sinceThen;
    for (const name of readdirSync(paths.boxDir)) {
      if (name.startsWith(paths.unfinished)) await removeTree(join(paths.boxDir, name), map);
    }
    rmSync(paths.log, { force: true });
    const target = mkdtempSync(join(paths.boxDir, paths.unfinished));
    try {
      await withWorkshop({ map, dir: paths.boxDir, logFile: paths.log, signal }, async (workshop) => {
        const inside = insideWorkshop(basename(target));
        const context: BuildContext = { recipe, apt, map, workshop, target, inside, progress };
        const [rootfs] = base?.layers ?? [];
        if (rootfs === undefined) await buildContainerPart(context);
        else await buildVmPart(context, insideWorkshop(relative(paths.boxDir, rootfs)));
        writeMetadata(target, partMetadata(recipe, kind, digest, await finishPart(context)));
      });
      renameSync(target, final);
      syncPath(paths.boxDir);
    } catch (error) {
      await removeTree(target, map);
      throw buildError(error, recipe.name);
    }
    const done = findPart(final);
    if (done === undefined)
      throw new TsvError('TSV_BOX_BUILD', `the box ${recipe.name} vanished from the store`, { details: [final] });
    return done;
  });
}

/**
 * A box has setuid programs, which are their owner's on the host too: nobody else may reach them there (CVE-2016-1582).
 * Containers need no way through this folder: their root file system is mounted by whoever owns it.
 */
function closeToOthers(boxes: string): void {
  const stat = statSync(boxes, { throwIfNoEntry: false });
  if (stat !== undefined && stat.uid === process.getuid?.() && (stat.mode & 0o077) !== 0) chmodSync(boxes, 0o700);
}

function findPart(dir: string): BoxRef | undefined {
  const metadata = readMetadata(dir);
  return metadata === undefined ? undefined : boxRef(dir, metadata);
}

function partMetadata({ name, user, vm }: Recipe, kind: BoxKind, digest: string, bytes: number): PartMetadata {
  const common = { version: 1, name, kind, digest, user, bytes } as const;
  return kind === 'vm' && vm !== undefined
    ? { ...common, vm: { cmdline: vm.cmdline, virtualBytes: vm.diskBytes, ...(vm.warm ? { warm: true } : {}) } }
    : common;
}

function writeMetadata(dir: string, metadata: PartMetadata): void {
  const file = join(dir, partFiles.metadata);
  writeFileSync(file, `${JSON.stringify(metadata, null, 2)}\n`);
  syncPath(file);
}

function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}

/** A full disk can hit this process as well as the programs it runs. */
function buildError(error: unknown, name: string): unknown {
  if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') return error;
  return new TsvError('TSV_BOX_BUILD', `the box ${name} could not be built: the disk is full`, {
    hint: 'a box needs about 2 GiB',
    cause: error,
  });
}
