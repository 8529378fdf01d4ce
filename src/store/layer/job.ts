import { createHash, type Hash } from 'node:crypto';
import {
  closeSync,
  fstatSync,
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
import { basename, join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import { syncFileSystem } from '../../sys/files.ts';
import { lockExclusive, tryLockExclusive } from '../../sys/flock.ts';
import { TarReader } from '../../tar/reader.ts';
import { type Decoder, decoder } from './decode.ts';
import { storeFailure } from './failures.ts';
import { type LayerNote, layerFiles, layerNames, readLayerNote } from './layout.ts';
import type { Begin } from './protocol.ts';
import { removeFolder } from './remove.ts';
import { LayerTree } from './tree.ts';
import type { UnpackedLayer } from './unpacker.ts';

/**
 * One layer in the making, in the process that unpacks. It holds the layer's lock, and works in a folder
 * `.new.HEX.XXXXXX` that gets its final name as the very last step.
 */
export class LayerJob {
  private readonly begin: Begin;
  private readonly hash: Hash;
  private readonly reader: TarReader;
  private readonly decoder: Decoder;
  private readonly tree: LayerTree;
  private readonly lock: number;
  private readonly root: number;
  /** The unfinished folder. */
  private readonly target: string;
  private bytesIn = 0;
  private bytesOut = 0;

  /** undefined: the layer is there. Waits for whoever makes it now, after a call of `waiting`. @throws TSV_STORE */
  static start(begin: Begin, waiting: () => void): LayerJob | undefined {
    const { folder, diffId } = begin;
    const { final, lock } = layerNames(diffId);
    const isThere = (): boolean => readLayerNote(join(folder, final)) !== undefined;
    try {
      if (isThere()) return undefined;
      const fd = takeLock(join(folder, lock), waiting);
      try {
        if (!isThere()) return new LayerJob(begin, fd);
      } catch (error) {
        freeLock(join(folder, lock), fd);
        throw error;
      }
      freeLock(join(folder, lock), fd);
      return undefined;
    } catch (error) {
      throw storeFailure(error, 'beginning a layer', folder);
    }
  }

  private constructor(begin: Begin, lock: number) {
    const { folder, diffId, map, limits, compression } = begin;
    this.begin = begin;
    this.lock = lock;
    this.hash = createHash(diffId.slice(0, diffId.indexOf(':')));
    // May find that the host lacks its library: before there is anything to remove.
    this.decoder = decoder(compression, (bytes) => this.consume(bytes));
    const { final, unfinished } = layerNames(diffId);
    // Of those who were killed. A folder of the final name without its note is no layer either.
    const old = readdirSync(folder).filter((name) => name.startsWith(unfinished) || name === final);
    for (const name of old) removeTree(folder, name);
    this.target = mkdtempSync(join(folder, unfinished));
    const tree = join(this.target, layerFiles.tree);
    mkdirSync(tree);
    this.root = openSync(tree, 'r');
    this.tree = new LayerTree(this.root, map, limits);
    this.reader = new TarReader(this.tree);
  }

  async write(chunk: Buffer): Promise<void> {
    this.bytesIn += chunk.length;
    await this.decoder.write(chunk);
  }

  private consume(bytes: Buffer): void {
    const { limits } = this.begin;
    this.bytesOut += bytes.length;
    const { bytesIn, bytesOut } = this;
    if (bytesOut > limits.bytes) throw tooLarge(`more than ${limits.bytes} bytes without compression`);
    if (bytesOut > limits.ratioFromBytes && bytesOut > limits.ratio * bytesIn) {
      throw tooLarge(`${bytesIn} bytes of it are ${bytesOut} without compression`);
    }
    this.hash.update(bytes);
    try {
      this.reader.push(bytes);
    } catch (error) {
      throw storeFailure(error, 'unpacking', this.target);
    }
  }

  /** Publishes the layer. @throws TSV_DIGEST, TSV_IMAGE, TSV_STORE; nothing is left then */
  async finish(): Promise<UnpackedLayer> {
    const { folder, diffId } = this.begin;
    await this.decoder.end();
    const found = `${diffId.slice(0, diffId.indexOf(':'))}:${this.hash.digest('hex')}`;
    if (found !== diffId) {
      throw new TsvError('TSV_DIGEST', 'a layer of the image is not the one that its configuration names', {
        details: [`diff id ${diffId}`, `the layer has ${found}`],
        hint: 'the image was built wrong or tampered with: tell whoever publishes it',
      });
    }
    this.reader.end();
    try {
      this.tree.finish();
      const { bytes, entries, skipped } = this.tree;
      const note: LayerNote = { version: 1, diffId, bytes, entries };
      writeFileSync(join(this.target, layerFiles.note), `${JSON.stringify(note)}\n`, { mode: 0o600 });
      // All of it: a layer that is there is taken as it is ever after.
      syncFileSystem(this.root);
      renameSync(this.target, join(folder, layerNames(diffId).final));
      syncPath(folder);
      this.close();
      return { bytes, entries, skipped };
    } catch (error) {
      throw storeFailure(error, 'publishing', basename(this.target));
    }
  }

  /** Leaves nothing. */
  abandon(): void {
    this.close(() => removeTree(this.begin.folder, basename(this.target)));
  }

  private close(before: () => void = () => {}): void {
    this.decoder.close();
    this.tree.close();
    closeSync(this.root);
    try {
      before();
    } finally {
      freeLock(join(this.begin.folder, layerNames(this.begin.diffId).lock), this.lock);
    }
  }
}

const tooLarge = (why: string): TsvError =>
  new TsvError('TSV_IMAGE', 'a layer of the image is larger than what is unpacked', {
    details: [why],
    hint: 'an archive that becomes so large is taken for an attack on the disk',
  });

/** Locks a file that its last holder removes: what was locked must still be what the name stands for. */
function takeLock(path: string, waiting: () => void): number {
  for (;;) {
    const fd = openSync(path, 'a', 0o600);
    if (!tryLockExclusive(fd)) {
      waiting();
      lockExclusive(fd);
    }
    if (statSync(path, { throwIfNoEntry: false })?.ino === fstatSync(fd).ino) return fd;
    closeSync(fd);
  }
}

function freeLock(path: string, fd: number): void {
  rmSync(path, { force: true });
  closeSync(fd);
}

function removeTree(folder: string, name: string): void {
  const parent = openSync(folder, 'r');
  try {
    const result = removeFolder(parent, name);
    if (result < 0) throw storeFailure(-result, 'removing', name);
  } finally {
    closeSync(parent);
  }
}

function syncPath(path: string): void {
  const fd = openSync(path, 'r');
  try {
    fsyncSync(fd);
  } finally {
    closeSync(fd);
  }
}
