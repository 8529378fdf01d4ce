import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { TsvError } from '../../model/errors.ts';
import type { BoxRef } from '../../model/provider.ts';
import { partFiles } from './layout.ts';

/** box.json of a finished part: written last, so its presence says that the part is complete. */
export interface PartMetadata {
  readonly version: 1;
  readonly name: string;
  readonly kind: 'container' | 'vm';
  readonly digest: string;
  readonly user: string;
  /** What the part takes up on the disk. */
  readonly bytes: number;
  /** VM parts. */
  readonly vm?: {
    readonly cmdline: string;
    readonly virtualBytes: number;
    /** See `BoxRef.warm`. */
    readonly warm?: boolean;
  };
}

/**
 * The metadata in the folder `dir`, or undefined when there is none: the part is not built.
 * @throws TSV_BOX_BUILD when the file is not what this program wrote.
 */
export function readMetadata(dir: string): PartMetadata | undefined {
  const file = join(dir, partFiles.metadata);
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
  return parseMetadata(text, file);
}

/** {@link readMetadata} without the disk. */
export function parseMetadata(text: string, file: string): PartMetadata {
  let value: Partial<PartMetadata> | null;
  try {
    value = JSON.parse(text) as Partial<PartMetadata> | null;
  } catch {
    value = null;
  }
  const whole =
    value?.version === 1 &&
    [value.name, value.digest, value.user].every((field) => typeof field === 'string') &&
    typeof value.bytes === 'number' &&
    (value.kind === 'container' ||
      (value.kind === 'vm' && typeof value.vm?.cmdline === 'string' && typeof value.vm.virtualBytes === 'number'));
  if (whole) return value as PartMetadata;
  throw new TsvError('TSV_BOX_BUILD', `${file} is damaged`, {
    hint: 'destroy the machines that use this box, then remove this file: the next `tsv up` builds the box again',
  });
}

/** The box as a provider sees it. */
export function boxRef(dir: string, metadata: PartMetadata): BoxRef {
  const { name, digest, user, vm } = metadata;
  if (vm === undefined) return { name, digest, user, layers: [join(dir, partFiles.rootfs)] };
  return {
    name,
    digest,
    user,
    disk: { path: join(dir, partFiles.disk), format: 'raw', virtualBytes: vm.virtualBytes },
    kernel: join(dir, partFiles.kernel),
    initrd: join(dir, partFiles.initrd),
    cmdline: vm.cmdline,
    ...(vm.warm === true ? { warm: true } : {}),
  };
}
