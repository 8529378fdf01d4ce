import { MOUNT_ATTR, MS } from '../sys/flags.ts';

/** What the options of a mount ask for: config.md, "Linux mount options"; mount(2), mount_setattr(2). */
export interface MountOptions {
  /** MS_* for a new file system, and for a remount. */
  readonly flags: number;
  /** MOUNT_ATTR_* for one mount, and for it with all below it: for a bind. */
  readonly attributes: AttributeChange;
  readonly recursive: AttributeChange;
  /** MS_SHARED and so on, in their order, some with MS_REC. */
  readonly propagation: readonly number[];
  /** Of the file system's own. */
  readonly data: readonly string[];
  readonly idmap: 'no' | 'single' | 'recursive';
  readonly copyUp: boolean;
}

export interface AttributeChange {
  readonly set: number;
  readonly clear: number;
}

interface FlagOption {
  readonly flag: number;
  readonly clear?: true;
  readonly attribute?: AttributeChange;
}

const attribute = (set: number, clear = 0): AttributeChange => ({ set, clear });
const atime = MOUNT_ATTR._ATIME;

const flagOptions: Readonly<Record<string, FlagOption>> = {
  acl: { flag: MS.POSIXACL },
  async: { flag: MS.SYNCHRONOUS, clear: true },
  atime: { flag: MS.NOATIME, clear: true, attribute: attribute(MOUNT_ATTR.RELATIME, atime) },
  bind: { flag: MS.BIND },
  defaults: { flag: 0 },
  dev: { flag: MS.NODEV, clear: true, attribute: attribute(0, MOUNT_ATTR.NODEV) },
  diratime: { flag: MS.NODIRATIME, clear: true, attribute: attribute(0, MOUNT_ATTR.NODIRATIME) },
  dirsync: { flag: MS.DIRSYNC },
  exec: { flag: MS.NOEXEC, clear: true, attribute: attribute(0, MOUNT_ATTR.NOEXEC) },
  iversion: { flag: MS.I_VERSION },
  lazytime: { flag: MS.LAZYTIME },
  loud: { flag: MS.SILENT, clear: true },
  mand: { flag: MS.MANDLOCK },
  noacl: { flag: MS.POSIXACL, clear: true },
  noatime: { flag: MS.NOATIME, attribute: attribute(MOUNT_ATTR.NOATIME, atime) },
  nodev: { flag: MS.NODEV, attribute: attribute(MOUNT_ATTR.NODEV) },
  nodiratime: { flag: MS.NODIRATIME, attribute: attribute(MOUNT_ATTR.NODIRATIME) },
  noexec: { flag: MS.NOEXEC, attribute: attribute(MOUNT_ATTR.NOEXEC) },
  noiversion: { flag: MS.I_VERSION, clear: true },
  nolazytime: { flag: MS.LAZYTIME, clear: true },
  nomand: { flag: MS.MANDLOCK, clear: true },
  norelatime: { flag: MS.RELATIME, clear: true, attribute: attribute(MOUNT_ATTR.RELATIME, atime) },
  nostrictatime: { flag: MS.STRICTATIME, clear: true, attribute: attribute(MOUNT_ATTR.RELATIME, atime) },
  nosuid: { flag: MS.NOSUID, attribute: attribute(MOUNT_ATTR.NOSUID) },
  nosymfollow: { flag: MS.NOSYMFOLLOW, attribute: attribute(MOUNT_ATTR.NOSYMFOLLOW) },
  rbind: { flag: MS.BIND | MS.REC },
  relatime: { flag: MS.RELATIME, attribute: attribute(MOUNT_ATTR.RELATIME, atime) },
  remount: { flag: MS.REMOUNT },
  ro: { flag: MS.RDONLY, attribute: attribute(MOUNT_ATTR.RDONLY) },
  rw: { flag: MS.RDONLY, clear: true, attribute: attribute(0, MOUNT_ATTR.RDONLY) },
  silent: { flag: MS.SILENT },
  strictatime: { flag: MS.STRICTATIME, attribute: attribute(MOUNT_ATTR.STRICTATIME, atime) },
  suid: { flag: MS.NOSUID, clear: true, attribute: attribute(0, MOUNT_ATTR.NOSUID) },
  symfollow: { flag: MS.NOSYMFOLLOW, clear: true, attribute: attribute(0, MOUNT_ATTR.NOSYMFOLLOW) },
  sync: { flag: MS.SYNCHRONOUS },
};

const propagationOptions: Readonly<Record<string, number>> = {
  private: MS.PRIVATE,
  rprivate: MS.PRIVATE | MS.REC,
  rshared: MS.SHARED | MS.REC,
  rslave: MS.SLAVE | MS.REC,
  runbindable: MS.UNBINDABLE | MS.REC,
  shared: MS.SHARED,
  slave: MS.SLAVE,
  unbindable: MS.UNBINDABLE,
};

/** `rro`, `rnosuid` and so on: an attribute option of the whole tree. */
function recursiveOption(option: string): AttributeChange | undefined {
  return option.startsWith('r') ? flagOptions[option.slice(1)]?.attribute : undefined;
}

/** The options for a file system that is mounted anew: nothing is below it yet, so `rro` is `ro`. */
export const ofNewFilesystem = (options: readonly string[]): string[] =>
  options.map((option) => (recursiveOption(option) === undefined ? option : option.slice(1)));

const apply = (before: AttributeChange, change: AttributeChange): AttributeChange => ({
  set: (before.set & ~change.clear) | change.set,
  clear: (before.clear & ~change.set) | change.clear,
});

/** Reads the options of a mount; those that are no mount option belong to its file system. */
export function readMountOptions(options: readonly string[]): MountOptions {
  let flags = 0;
  let attributes = attribute(0);
  let recursive = attribute(0);
  const propagation: number[] = [];
  const data: string[] = [];
  let idmap: MountOptions['idmap'] = 'no';
  let copyUp = false;
  for (const option of options) {
    const known = Object.hasOwn(flagOptions, option) ? flagOptions[option] : undefined;
    const spreads = Object.hasOwn(propagationOptions, option) ? propagationOptions[option] : undefined;
    const tree = recursiveOption(option);
    if (known !== undefined) {
      flags = known.clear === true ? flags & ~known.flag : flags | known.flag;
      if (known.attribute !== undefined) attributes = apply(attributes, known.attribute);
    } else if (spreads !== undefined) propagation.push(spreads);
    else if (tree !== undefined) recursive = apply(recursive, tree);
    else if (option === 'idmap') idmap = 'single';
    else if (option === 'ridmap') idmap = 'recursive';
    else if (option === 'tmpcopyup') copyUp = true;
    else data.push(option);
  }
  return { flags, attributes, recursive, propagation, data, idmap, copyUp };
}

/** All options that {@link readMountOptions} knows: `features` lists them. */
export const mountOptionNames: readonly string[] = [
  ...Object.keys(flagOptions),
  ...Object.keys(propagationOptions),
  ...Object.entries(flagOptions).flatMap(([name, option]) => (option.attribute === undefined ? [] : [`r${name}`])),
  'idmap',
  'ridmap',
  'tmpcopyup',
].sort();
