import { mkdtempSync, rmSync } from 'node:fs';
import type { Machine, ShellStep } from '../../../src/model/project.ts';
import type { MachineState, ProcessRef, State } from '../../../src/model/state.ts';
import { newState } from '../../../src/state/store.ts';

/** A new project folder, and what removes it. Always below /tmp: the paths of sockets have to stay short. */
export function projectFolder(): { readonly dir: string; remove(): void } {
  const dir = mkdtempSync('/tmp/tsv-state-');
  return { dir, remove: () => rmSync(dir, { recursive: true, force: true }) };
}

export const ref = (pid: number): ProcessRef => ({ pid, startTime: String(pid * 10), bootId: 'boot' });

const secretStep: ShellStep = {
  type: 'shell',
  name: 'packages',
  run: 'once',
  fingerprint: 'f1',
  script: { inline: 'echo inline-secret' },
  args: ['argument-secret'],
  env: { TOKEN: 'environment-secret' },
  privileged: true,
};

const spec: Machine = {
  name: 'db',
  group: 'db',
  kind: 'vm',
  box: 'debian-12',
  hostname: 'db',
  memoryBytes: 805306368,
  cpus: 1,
  pids: 1000,
  command: ['sleep', '1'],
  env: { A: 'b' },
  networks: [{ network: 'backend', address: '10.77.1.10' }],
  forwards: [{ hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 }],
  shares: [{ host: '/a', guest: '/b', readonly: true, uid: 1000, gid: 33 }],
  volumes: [{ name: 'old_DB.1', guest: '/c', readonly: false }],
  disks: [{ name: 'data', sizeBytes: 2147483648 }],
  dependsOn: [{ machine: 'web-1', condition: 'healthy' }],
  healthcheck: { exec: ['true'], everyMs: 1, timeoutMs: 1, retries: 1, startPeriodMs: 0 },
  provision: [secretStep],
  bootTimeoutMs: 1,
  stopTimeoutMs: 1,
  accel: 'auto',
};

export const machine: MachineState = {
  spec,
  boxDigest: 'sha256:1',
  addresses: [{ network: 'backend', address: '10.77.1.10', mac: '52:54:00:00:00:01', device: 'eth0' }],
  createdAt: '2026-01-01T00:00:00.000Z',
  process: ref(1234),
  startedAt: '2026-01-01T00:00:01.000Z',
  ready: true,
  accel: { accel: 'tcg', reason: '/dev/kvm: No such file or directory' },
  steps: { packages: { fingerprint: 'f1', doneAt: '2026-01-01T00:00:02.000Z' } },
  provider: { anything: { nested: [1, null, 'x'] } },
};

/** A state in which every field is used. */
export function fullState(dir: string): State {
  return {
    ...newState(dir, 'shop'),
    tsfileDigest: 'sha256:2',
    sandbox: { holder: ref(100), rooted: false, dnsmasq: ref(101), uplink: ref(102) },
    networks: {
      backend: {
        spec: { name: 'backend', mode: 'isolated', subnet: '10.77.1.0/24' },
        subnet: '10.77.1.0/24',
        gateway: '10.77.1.1',
        bridge: 'tsv1',
      },
    },
    machines: { db: machine },
    volumes: { 'old_DB.1': { keep: true, left: true } },
  };
}

/** {@link fullState} as it comes back from its file: without the provisioning steps of the spec. */
export function asWritten(state: State, serial: number): State {
  const machines = Object.entries(state.machines).map(([name, entry]) => [
    name,
    { ...entry, spec: { ...entry.spec, provision: [] } },
  ]);
  return { ...state, serial, machines: Object.fromEntries(machines) };
}
