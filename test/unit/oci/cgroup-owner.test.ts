import { expect, test } from 'vitest';
import { cgroupOwner } from '../../../src/oci/runtime/create.ts';
import type { OciConfig, OciNamespace } from '../../../src/oci/spec.ts';

const config = (
  namespaces: readonly OciNamespace[],
  { uid = 0, options = ['rw'] }: { uid?: number; options?: readonly string[] } = {},
): OciConfig => ({
  ociVersion: '1.2.0',
  process: { args: ['sh'], cwd: '/', user: { uid, gid: 0 } },
  mounts: [{ destination: '/sys/fs/cgroup', type: 'cgroup', source: 'cgroup', options }],
  linux: { namespaces, uidMappings: [{ containerID: 0, hostID: 300_000, size: 1000 }] },
});
const [own, user] = [{ type: 'cgroup' }, { type: 'user' }] as const;

test('a cgroup is handed to the process only where it sees that alone, and may write', () => {
  expect(cgroupOwner(config([own, user]))).toBe(300_000);
  expect(cgroupOwner(config([own, user], { uid: 33 }))).toBe(300_033);
  expect(cgroupOwner(config([own, user], { uid: 5000 })), 'no id of the host').toBeUndefined();
  expect(cgroupOwner(config([own], { uid: 33 }))).toBe(33);
  expect(cgroupOwner(config([own, user], { options: ['nosuid', 'ro'] }))).toBeUndefined();
  expect(cgroupOwner(config([user])), 'the namespace of the host').toBeUndefined();
  expect(cgroupOwner(config([{ type: 'cgroup', path: '/proc/1/ns/cgroup' }, user]))).toBeUndefined();
  expect(cgroupOwner({ ...config([own, user]), mounts: [] })).toBeUndefined();
});
