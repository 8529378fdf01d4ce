import { readdirSync, readFileSync, readlinkSync } from 'node:fs';

/** A layer of an image or of the provision cache, or a part of a box, in the options of an overlay mount (also of one whose paths are relative). */
const pattern =
  /((?:sha512-[0-9a-f]{128}|[0-9a-f]{64}(?:\.\d+\.[0-9a-f]{8})?)\/fs|(?:vm|container)-[0-9a-f]{16}\/rootfs)/g;

/** The part of a box that a virtual machine's disk rests on. */
const diskPattern = /(vm-[0-9a-f]{16})\/disk\.raw$/;

/**
 * What machines use right now, as the last two names of each path (`HEX/fs`, `container-HEX/rootfs`, `vm-HEX/disk.raw`):
 * mounts in all mount namespaces, and files that QEMU has open, of processes that may be looked at. A project may have been
 * moved, and a machine of it runs on.
 */
export function mountedTrees(proc = '/proc'): ReadonlySet<string> {
  const found = new Set<string>();
  const seen = new Set<string>();
  for (const pid of readdirSync(proc)) {
    if (!/^\d+$/.test(pid)) continue;
    try {
      if (readFileSync(`${proc}/${pid}/comm`, 'utf8').startsWith('qemu')) addDisks(`${proc}/${pid}/fd`, found);
      const namespace = readlinkSync(`${proc}/${pid}/ns/mnt`);
      if (seen.has(namespace)) continue;
      const mounts = readFileSync(`${proc}/${pid}/mountinfo`, 'utf8');
      seen.add(namespace);
      for (const line of mounts.split('\n')) {
        if (!line.includes(' - overlay ')) continue;
        for (const [path] of line.matchAll(pattern)) found.add(path);
      }
    } catch {
      // Ended meanwhile, or another user's.
    }
  }
  return found;
}

function addDisks(folder: string, found: Set<string>): void {
  for (const fd of readdirSync(folder)) {
    const [disk] = diskPattern.exec(readlinkSync(`${folder}/${fd}`)) ?? [];
    if (disk !== undefined) found.add(disk);
  }
}
