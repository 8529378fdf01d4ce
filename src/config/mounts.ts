import { existsSync, statSync } from 'node:fs';
import { resolve } from 'node:path';
import type { Device, Share, Tmpfs } from '../model/project.ts';
import { whyUnreadable } from './content.ts';
import type { Report, Span } from './diagnostic.ts';
import { booleanOf, fieldOf, guestPathOf, itemsOf, leastPage, normalGuestPath, numberOf, textOf } from './read.ts';
import { didYouMean } from './suggest.ts';
import type { Node } from './tree.ts';
import { parseMode, parseSize } from './units.ts';

/** A path as one word of a shell command that the user may paste. */
const shellWord = (text: string): string =>
  /^[A-Za-z0-9_./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;

/** Folders of the kernel, where a mount would break the container or show it the host. */
const kernelPaths = ['/proc', '/sys', '/dev'];

const isBelow = (path: string, folder: string): boolean => path === folder || path.startsWith(`${folder}/`);
export const isTaken = (path: string): boolean => path === '/' || kernelPaths.some((folder) => isBelow(path, folder));

export function readShares(node: Node | undefined, dir: string, report: Report): readonly Share[] {
  const shares: Share[] = [];
  for (const item of itemsOf(node)) {
    const host = textOf(fieldOf(item, 'host'));
    const guest = guestPathOf(fieldOf(item, 'guest'), report);
    const path = host === undefined || host.value === '' ? undefined : resolve(dir, host.value);
    if (host !== undefined && path !== undefined && !host.value.includes('\0') && !existsSync(path)) {
      const hint = host.value.startsWith('~')
        ? `\`~\` is not replaced here; write \${HOME}`
        : `mkdir -p ${shellWord(path)}`;
      report(host.at, `${host.value} does not exist`, hint);
    }
    if (guest === undefined || path === undefined) continue;
    if (isTaken(guest.value)) report(guest.at, `${guest.value} of a container cannot be replaced by a share`);
    if (shares.some((other) => other.guest === guest.value)) report(guest.at, `two shares are at ${guest.value}`);
    const [uid, gid] = [numberOf(fieldOf(item, 'uid'))?.value, numberOf(fieldOf(item, 'gid'))?.value];
    shares.push({
      host: path,
      guest: guest.value,
      readonly: booleanOf(fieldOf(item, 'readonly')) ?? false,
      ...(uid === undefined ? {} : { uid }),
      ...(gid === undefined ? {} : { gid }),
    });
  }
  return shares;
}

/** Of the same container: where it has something of the host already. */
export interface Mounted {
  readonly shares: readonly { readonly guest: string }[];
  readonly volumes: readonly { readonly guest: string }[];
}

/** `PATH` or `PATH:size=SIZE,mode=MODE`. */
export function readTmpfs(node: Node | undefined, { shares, volumes }: Mounted, report: Report): readonly Tmpfs[] {
  const mounts: Tmpfs[] = [];
  for (const item of itemsOf(node)) {
    const text = textOf(item);
    const [, written, options] = /^(\/[^:]*)(?::([^:]*))?$/.exec(text?.value ?? '') ?? [];
    if (text === undefined || written === undefined) continue;
    const path = normalGuestPath({ value: written, at: text.at }, report);
    if (isTaken(path)) {
      const hint = path === '/dev/shm' ? 'its size is `shm_size`' : undefined;
      report(text.at, `${path} of a container cannot be replaced by a folder in memory`, hint);
    }
    if (mounts.some((other) => other.path === path)) report(text.at, `two folders in memory are at ${path}`);
    if (shares.some((share) => share.guest === path)) report(text.at, `a share is at ${path}, too`);
    if (volumes.some((volume) => volume.guest === path)) report(text.at, `a volume is at ${path}, too`);
    mounts.push({ path, ...readTmpfsOptions(options, text.at, report) });
  }
  return mounts;
}

function readTmpfsOptions(text: string | undefined, at: Span, report: Report): Omit<Tmpfs, 'path'> {
  const result: { sizeBytes?: number; mode?: number } = {};
  for (const option of text?.split(',') ?? []) {
    const [key = '', value = ''] = option.split(/=(.*)/s);
    if (key === 'size') {
      const size = parseSize(value);
      if (size === undefined)
        report(at, `${JSON.stringify(value)} is no size of a folder in memory`, 'such as size=64M');
      // The kernel takes 0 for no limit at all (tmpfs(5)).
      else if (size < leastPage) report(at, 'a folder in memory has at least 4K');
      else result.sizeBytes = size;
    } else if (key === 'mode') {
      const mode = parseMode(value);
      if (mode === undefined) report(at, `${JSON.stringify(value)} is no file mode`, 'octal, such as mode=1777');
      else result.mode = mode;
    } else {
      report(
        at,
        `there is no option ${JSON.stringify(key)} here`,
        didYouMean(key, ['size', 'mode']) ?? 'size=SIZE, mode=MODE',
      );
    }
  }
  return result;
}

/** `HOST`, `HOST:CONTAINER`, `HOST:CONTAINER:ACCESS` or `HOST:ACCESS`. Looks at the host's devices. */
export function readDevices(node: Node | undefined, report: Report): readonly Device[] {
  const devices: Device[] = [];
  for (const item of itemsOf(node)) {
    const text = textOf(item);
    const match = /^(\/[^:]*)(?::(\/[^:]*))?(?::([rwm]{1,3}))?$/.exec(text?.value ?? '');
    if (text === undefined || match?.[1] === undefined) continue;
    const [host, access] = [match[1], match[3] ?? 'rwm'];
    const why = whyNoDevice(host);
    if (why !== undefined)
      report(text.at, `${host} ${why}`, why === noDevice ? '`share` is for files and folders' : undefined);
    const container = normalGuestPath({ value: match[2] ?? host, at: text.at }, report);
    if (['/', '/dev'].includes(container) || ['/proc', '/sys'].some((folder) => isBelow(container, folder)))
      report(text.at, `a device cannot be at ${container} of a container`);
    if (devices.some((other) => other.container === container)) report(text.at, `two devices are at ${container}`);
    devices.push({ host, container, access: [...'rwm'].filter((letter) => access.includes(letter)).join('') });
  }
  return devices;
}

const noDevice = 'is not a device';

function whyNoDevice(path: string): string | undefined {
  try {
    const stat = statSync(path);
    return stat.isCharacterDevice() || stat.isBlockDevice() ? undefined : noDevice;
  } catch (error) {
    return whyUnreadable(error);
  }
}
