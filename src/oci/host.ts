import { existsSync, readFileSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { requireNamespaces } from './namespaces.ts';
import type { OciConfig, OciProcess } from './spec.ts';

/** Whether this host's kernel labels with AppArmor: /sys/module/apparmor. */
export const hasApparmor = (): boolean => readText('/sys/module/apparmor/parameters/enabled').trim() === 'Y';
/** Whether a SELinux policy is loaded. */
export const hasSelinux = (): boolean => existsSync('/sys/fs/selinux/enforce');
export const hasIntelRdt = (): boolean => existsSync('/sys/fs/resctrl/schemata');

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

/**
 * What a configuration asks of the host before anything is made.
 * @returns what is left out, for the log
 * @throws TSV_UNSUPPORTED naming the JSON path
 */
export function checkHost(config: OciConfig): string[] {
  requireNamespaces(config);
  if (config.linux?.namespaces?.some(({ type }) => type === 'mount') !== true) {
    throw new TsvError('TSV_UNSUPPORTED', 'linux.namespaces: a container needs a mount namespace', {
      details: ['without one its mounts would be those of the host'],
    });
  }
  if (config.process !== undefined) checkLabels(config.process);
  if (config.linux?.mountLabel !== undefined && !hasSelinux()) {
    throw new TsvError('TSV_UNSUPPORTED', 'linux.mountLabel: this host has no SELinux');
  }
  return config.linux?.intelRdt !== undefined && !hasIntelRdt()
    ? ['linux.intelRdt: this host has no resctrl file system; it is left out']
    : [];
}

/** @throws TSV_UNSUPPORTED: a profile that nobody enforces would be a promise broken in silence */
export function checkLabels(process: OciProcess): void {
  if (process.apparmorProfile !== undefined && !hasApparmor()) {
    throw new TsvError('TSV_UNSUPPORTED', 'process.apparmorProfile: this host has no AppArmor');
  }
  if (process.selinuxLabel !== undefined && !hasSelinux()) {
    throw new TsvError('TSV_UNSUPPORTED', 'process.selinuxLabel: this host has no SELinux');
  }
}
