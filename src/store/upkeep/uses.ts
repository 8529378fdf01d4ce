import type { Digest } from '../../model/image.ts';

/** A machine that exists, and what it was made from. */
export interface MachineUse {
  readonly machine: string;
  /** Absolute. */
  readonly projectDir: string;
  readonly running: boolean;
  /** Of an image: a {@link Digest}; of a box: hex digits. */
  readonly digest: string;
  /** Of a VM: folders of the disks that its own lies over, of the box, templates and layers. */
  readonly beneath?: readonly string[];
  /** Names of the layers of the provision cache beneath it. Absent: none. */
  readonly layers?: readonly string[];
}

/** All that the projects of this user want from the store. */
export interface Uses {
  readonly machines: readonly MachineUse[];
  /** Of Tsfiles: images in full. */
  readonly references: ReadonlySet<string>;
  /** Of lock files. */
  readonly pinned: ReadonlySet<Digest>;
  /** Of Tsfiles: names of boxes. */
  readonly boxes: ReadonlySet<string>;
  /** Projects whose Tsfile or lock file cannot be read, and why: what they may want is kept. */
  readonly unreadable: readonly { readonly projectDir: string; readonly why: string }[];
}

/** For people: `web of /home/me/shop (running)`. */
export const useText = ({ machine, projectDir, running }: MachineUse): string =>
  `${machine} of ${projectDir}${running ? ' (running)' : ''}`;
