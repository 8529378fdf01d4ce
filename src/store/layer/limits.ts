/** What a layer may be at most: beyond it the archive is taken for an attack (zip bombs, endless folders). */
export interface UnpackLimits {
  /** Bytes of the archive without compression. */
  readonly bytes: number;
  /** Bytes out for each byte in, once more than `ratioFromBytes` have come out. */
  readonly ratio: number;
  readonly ratioFromBytes: number;
  /** Entries of the archive. */
  readonly entries: number;
}

export const defaultLimits: UnpackLimits = {
  bytes: 2 ** 38,
  ratio: 100,
  ratioFromBytes: 2 ** 30,
  entries: 1_000_000,
};
