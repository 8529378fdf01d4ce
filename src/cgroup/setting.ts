/** What one member of `linux.resources` means for the kernel. */
export type Setting = Write | Impossible;

export interface Write {
  /** By its v1 name. */
  readonly controller: string;
  /** Where it was asked for: `linux.resources.memory.limit`. */
  readonly field: string;
  /** Of these the first whose file the kernel has is written. A function gets what the file says now. */
  readonly writes: readonly { readonly file: string; readonly value: string | ((current: string) => string) }[];
  /** EINVAL may only mean that the controller's other settings have to come first: tried again after them. */
  readonly deferrable?: true;
  /** Where the kernel has no such file, nothing is lost. */
  readonly optional?: true;
  /** The kernel clamps silently: what it says afterwards has to be the same. */
  readonly readBack?: true;
  /** The kernel accepts a list of which it has nothing, and does without: what this file says has to be of the list. */
  readonly effective?: string;
  /** Refused while the number in `file` is above `limit` (checkBeforeUpdate). */
  readonly notBelow?: { readonly file: string; readonly limit: bigint };
}

export interface Impossible {
  readonly controller: string;
  readonly field: string;
  readonly impossible: string;
}

/** A setting that is one file. */
export function write(
  controller: string,
  field: string,
  file: string,
  value: string | ((current: string) => string),
  more: Pick<Write, 'deferrable' | 'optional' | 'readBack' | 'effective' | 'notBelow'> = {},
): Write {
  return { controller, field, writes: [{ file, value }], ...more };
}
