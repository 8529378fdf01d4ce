import { join } from 'node:path';
import type { OciDeviceRule } from '../oci/spec.ts';
import type { MissingLimit, OnMissing } from './apply.ts';
import { setDeviceFilter } from './bpf.ts';
import { deviceFilter } from './device-filter.ts';
import { type DeviceRule, deviceRules } from './devices.ts';
import { deviceList, deviceWrites, parseDeviceList } from './devices-v1.ts';
import { type CgroupFiles, errnoOf, readIfThere } from './files.ts';
import { type Cgroup, v1Member, v2Member } from './place.ts';

const controller = 'devices';
const field = 'linux.resources.devices';

/**
 * Lets the container use the devices of its rules and the standard ones, and no others. Only root of the host can filter
 * devices; for others this is no error even where limits are, as in runc: in a user namespace nobody can make a node, and
 * the ones that are there are those that were bound into the container. It returns what is missing for that reason.
 */
export function applyDevices(
  cgroup: Cgroup,
  asked: readonly OciDeviceRule[] | undefined,
  privileged: boolean,
  onMissing: OnMissing,
  files: CgroupFiles,
): MissingLimit[] {
  const v1 = v1Member(cgroup, 'devices');
  const v2 = v2Member(cgroup);
  if (!privileged) {
    const reason = 'only root of the host can say which devices a cgroup may use';
    return asked === undefined ? [] : [{ controller, field, reason }];
  }
  const rules = deviceRules(asked);
  if (v1 !== undefined) applyV1(v1.folder, rules, onMissing, files);
  else if (v2 !== undefined) applyV2(v2.folder, rules, onMissing);
  else if (asked !== undefined) onMissing({ controller, field, reason: 'this host has no cgroups for devices' });
  return [];
}

function applyV1(folder: string, rules: readonly DeviceRule[], onMissing: OnMissing, files: CgroupFiles): void {
  const list = deviceList(rules);
  if ('reason' in list) {
    onMissing({ controller, field: `${field}[${list.rule}]`, reason: list.reason });
    return;
  }
  const current = parseDeviceList(files.read(join(folder, 'devices.list')));
  for (const { file, value } of deviceWrites(current, list)) {
    try {
      files.write(join(folder, file), value);
    } catch (error) {
      const errno = errnoOf(error);
      const why =
        errno === 'EPERM' ? 'the cgroup above does not allow it: EPERM' : `the kernel does not accept it: ${errno}`;
      onMissing({ controller, field, reason: why }, [`writing '${value}' to ${join(folder, file)}: ${errno}`], error);
      return;
    }
  }
}

function applyV2(folder: string, rules: readonly DeviceRule[], onMissing: OnMissing): void {
  try {
    setDeviceFilter(folder, deviceFilter(rules));
  } catch (error) {
    const errno = errnoOf(error);
    if (errno === undefined) throw error;
    const reason = errno === 'ENOSYS' ? 'this kernel has no bpf(2)' : `the filter could not be set: ${errno}`;
    onMissing({ controller, field, reason }, [`${folder}: ${(error as Error).message}`], error);
  }
}

/** Whether this process is root, and not only of a user namespace (user_namespaces(7), uid_map). */
export function isPrivileged(files: CgroupFiles): boolean {
  const map = readIfThere(files, '/proc/self/uid_map') ?? '';
  const status = readIfThere(files, '/proc/self/status') ?? '';
  return /^Uid:\t\d+\t0\t/m.test(status) && /^0 0 4294967295$/.test(map.trim().replace(/\s+/g, ' '));
}
