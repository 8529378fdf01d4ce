import { TsvError } from '../../model/errors.ts';
import type { Platform } from '../../model/image.ts';
import { nearest } from '../registry/nearest.ts';
import { formatReference, parseReference } from '../registry/reference.ts';
import { entriesOf } from './find.ts';
import { familiarText, type NamedImage } from './names.ts';

/** What somebody means by a word: entries of one name, or of the image with this digest. */
export interface Meant {
  readonly by: 'name' | 'digest';
  /** At least one. */
  readonly entries: readonly NamedImage[];
}

/** Fewer digits of a digest are a typing error rather than a digest. */
const fewestDigits = 3;

/**
 * The images of the store that `text` means: those of this name, on all platforms or on `platform`; else the one whose
 * digest begins so.
 * @throws TSV_IMAGE_UNKNOWN with the nearest name; TSV_USAGE when several digests begin so
 */
export function lookUp(names: readonly NamedImage[], text: string, platform?: Platform): Meant {
  const named = byName(names, text, platform);
  if (named.length > 0) return { by: 'name', entries: named };
  const digits = /^(?:sha256:)?([0-9a-f]+)$/.exec(text)?.[1] ?? '';
  const meant =
    digits.length < fewestDigits
      ? []
      : names.filter(({ descriptor }) => descriptor.digest.startsWith(`sha256:${digits}`));
  const digests = [...new Set(meant.map(({ descriptor }) => descriptor.digest))];
  if (digests.length > 1) {
    throw new TsvError('TSV_USAGE', `several images begin with ${digits}`, { details: digests });
  }
  if (meant.length > 0) return { by: 'digest', entries: meant };
  throw unknown(names, text);
}

function byName(names: readonly NamedImage[], text: string, platform: Platform | undefined): readonly NamedImage[] {
  const literal = names.filter(({ reference }) => reference === text); // of another program
  if (literal.length > 0) return literal;
  if (/^[0-9a-f]{64}$|^sha256:/.test(text)) return [];
  const reference = parseReference(text);
  if (platform !== undefined) return entriesOf(names, reference, platform).slice(0, 1);
  const full = formatReference(reference);
  return names.filter(
    ({ reference: own, descriptor, source }) =>
      own === full ||
      (reference.digest !== undefined && (descriptor.digest === reference.digest || source === reference.digest)),
  );
}

function unknown(names: readonly NamedImage[], text: string): TsvError {
  const known = names.flatMap(({ reference }) => (reference === undefined ? [] : [familiarText(reference)]));
  // The nearest of names of quite another length is no help.
  const [close] = nearest(
    text,
    [...new Set(known)].filter((name) => Math.abs(name.length - text.length) <= 3),
    1,
  );
  return new TsvError('TSV_IMAGE_UNKNOWN', `the store has no image ${text.slice(0, 300)}`, {
    hint:
      close === undefined
        ? `tsv image list shows all; tsv image pull ${text.slice(0, 300)} takes one from its registry`
        : `did you mean ${close}? tsv image list shows all`,
  });
}
