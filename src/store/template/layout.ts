import { join } from 'node:path';

/** Files of a template. docs/kvm.md describes them. */
export const templateFiles = {
  /** Written last: its presence says that the template is whole. */
  metadata: 'template.json',
  /** qcow2 over the box's disk. */
  disk: 'disk.qcow2',
  /** The guest's memory, as large as that is, with holes. */
  memory: 'memory',
  /** State of CPU and devices: QEMU's migration stream, without the memory. */
  devices: 'devices',
} as const;

/** What {@link templateFiles} holds beside the metadata. */
export const templateParts = [templateFiles.disk, templateFiles.memory, templateFiles.devices] as const;

export interface TemplatePaths {
  /** `STORE/templates` */
  readonly folder: string;
  /** What the names of finished ones start with. One that was damaged has a successor beside it: disks may lie over its own. */
  readonly finished: string;
  /** What the names of unfinished ones start with. */
  readonly unfinished: string;
  readonly lock: string;
}

/** sha256 in hex. */
const templateKey = /^[0-9a-f]{64}$/;

export const templatesFolder = (store: string): string => join(store, 'templates');

/** Where the template with this key lies. Pure. */
export function templatePaths(store: string, key: string): TemplatePaths {
  if (!templateKey.test(key)) throw new TypeError(`${JSON.stringify(key)} is not a template's key`);
  const folder = templatesFolder(store);
  const name = key.slice(0, 32);
  return { folder, finished: `${name}.`, unfinished: `.making-${name}.`, lock: join(folder, `.lock-${name}`) };
}
