import { lstatSync, readlinkSync } from 'node:fs';
import { join } from 'node:path';

const maxLinks = 40; // as the kernel: path_resolution(7)

/**
 * What a path of a root file system leads to, as if that folder were the root: links are followed inside it, also where
 * they lead to what is not there yet. Only a plan: whoever uses it opens it below the root again.
 */
export function resolveInRoot(rootfs: string, path: string): string {
  const rest = split(path);
  const done: string[] = [];
  for (let links = 0; rest.length > 0; ) {
    const part = rest.shift() ?? '';
    if (part === '..') {
      done.pop();
      continue;
    }
    const here = join(rootfs, ...done, part);
    const isLink = lstatSync(here, { throwIfNoEntry: false })?.isSymbolicLink() === true;
    if (!isLink || ++links > maxLinks) {
      done.push(part);
      continue;
    }
    const target = readlinkSync(here);
    if (target.startsWith('/')) done.length = 0;
    rest.unshift(...split(target));
  }
  return `/${done.join('/')}`;
}

const split = (path: string): string[] => path.split('/').filter((part) => part !== '' && part !== '.');
