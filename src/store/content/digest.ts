import { createHash } from 'node:crypto';
import { TsvError } from '../../model/errors.ts';
import { type Digest, isDigest } from '../../model/image.ts';

export { isDigest };

export type DigestAlgorithm = 'sha256' | 'sha512';

/** @throws TSV_DIGEST for what is no digest, or one of another algorithm. `from`: where it stands, for people. */
export function parseDigest(value: unknown, from?: string): Digest {
  if (isDigest(value)) return value;
  const shown = JSON.stringify(value) ?? 'nothing';
  throw new TsvError('TSV_DIGEST', `${shown.length > 150 ? `${shown.slice(0, 150)}…` : shown} is not a digest`, {
    details: from === undefined ? [] : [`in ${from}`],
    hint: 'a digest is sha256: and 64 hex digits, or sha512: and 128, in lower case',
  });
}

/** The two halves of a digest, checked once more: they become part of a path. @throws TSV_DIGEST */
export function digestParts(digest: Digest): { readonly algorithm: DigestAlgorithm; readonly hex: string } {
  const [algorithm = '', hex = ''] = parseDigest(digest).split(':');
  return { algorithm: algorithm === 'sha512' ? 'sha512' : 'sha256', hex };
}

/** A hash that goes on: bytes in, and in the end the digest of all of them. */
export interface Hasher {
  update(bytes: Uint8Array): void;
  /** To be asked once, after the last byte. */
  digest(): Digest;
}

/** A hasher of the algorithm that `like` is of. */
export function hasher(like: Digest): Hasher {
  const { algorithm } = digestParts(like);
  const hash = createHash(algorithm);
  return { update: (bytes) => void hash.update(bytes), digest: () => `${algorithm}:${hash.digest('hex')}` };
}

/** The sha256 digest of bytes that are all there. */
export const digestOf = (bytes: Uint8Array): Digest => `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
