import type { Descriptor, Digest, Platform } from '../../model/image.ts';
import type { UserMap } from '../../sys/userns.ts';

/**
 * `missing`: the registry is asked only when the store does not have the name; `always`: it is asked what the name is
 * now; `never`: the store has it, or it is an error.
 */
export type PullPolicy = 'missing' | 'always' | 'never';

export interface ResolveOptions {
  readonly env: NodeJS.ProcessEnv;
  /** Absent: this host's. An image that is for one platform only has to be for this one. */
  readonly platform?: Platform;
  readonly signal: AbortSignal;
  /** Which mirror did not help; what was left out of layers and why. */
  notice?(text: string): void;
}

export interface PullOptions extends ResolveOptions {
  readonly store: string;
  /** Unpacked layers belong to its ids. */
  readonly map: UserMap;
  /** Short texts for people: `2/5 layers, 31 of 67 MB`. Not called when the store has the image. */
  progress(text: string): void;
  readonly policy?: PullPolicy;
  /** Of a lock file: this manifest and no other, whatever the tag is now. */
  readonly digest?: Digest;
  /** Somebody asked for it: it is kept until somebody removes it. Otherwise it is kept for as long as a project uses it. */
  readonly byHand?: boolean;
  /** The built program that unpacks: `dist/parts/unpack.js`. */
  readonly unpackProgram: string;
}

/**
 * What a reference is at its registry at this moment: `descriptor` is the manifest's of the platform, `size` the bytes
 * that its layers take on the way.
 */
export interface ResolvedImage {
  /** In full, as `formatReference` writes it. */
  readonly reference: string;
  readonly descriptor: Descriptor;
  readonly size: number;
}
