import type { Plan } from '../../../src/model/plan.ts';
import type { Machine, Network, Project, RunPolicy, ShellStep } from '../../../src/model/project.ts';
import type { MachineState, Observation, Observed, ProcessRef, State } from '../../../src/model/state.ts';
import { printPlan } from '../../../src/plan/print.ts';
import { type ReconcileRequest, reconcile } from '../../../src/plan/reconcile.ts';

export const process: ProcessRef = { pid: 100, startTime: '1', bootId: 'boot' };

export function step(name: string, run: RunPolicy = 'once', fingerprint = 'f1'): ShellStep {
  return { type: 'shell', name, run, fingerprint, script: { inline: 'true' }, args: [], env: {}, privileged: true };
}

export function container(name: string, fields: Partial<Machine> = {}): Machine {
  return {
    name,
    group: name,
    kind: 'container',
    box: 'debian-12',
    hostname: name,
    memoryBytes: 512 * 2 ** 20,
    cpus: 1,
    pids: 1000,
    env: {},
    networks: [{ network: 'default' }],
    forwards: [],
    shares: [],
    disks: [],
    dependsOn: [],
    provision: [],
    bootTimeoutMs: 60_000,
    stopTimeoutMs: 10_000,
    accel: 'auto',
    ...fields,
  };
}

export function vm(name: string, fields: Partial<Machine> = {}): Machine {
  return container(name, { kind: 'vm', ...fields });
}

export function project(
  machines: readonly Machine[],
  networks: readonly Network[] = [{ name: 'default', mode: 'nat' }],
): Project {
  return { name: 'shop', dir: '/shop', file: '/shop/Tsfile.yaml', digest: 'd1', networks, machines };
}

const check = { exec: ['true'], everyMs: 1000, timeoutMs: 1000, retries: 3, startPeriodMs: 0 };

/** Three web containers and one VM behind a load balancer, as in examples/load-balancer. */
export function loadBalancer(): Project {
  const web = (index: number): Machine =>
    container(`web-${index}`, {
      group: 'web',
      networks: [{ network: 'backend' }],
      healthcheck: check,
      provision: [step('nginx')],
    });
  const lb = container('lb', {
    networks: [{ network: 'default' }, { network: 'backend', address: '10.77.1.2' }],
    forwards: [{ hostAddress: '127.0.0.1', hostPort: 8080, guestPort: 80 }],
    dependsOn: [
      { machine: 'web-1', condition: 'healthy' },
      { machine: 'web-2', condition: 'healthy' },
      { machine: 'web-3', condition: 'healthy' },
      { machine: 'db', condition: 'started' },
    ],
    provision: [step('haproxy', 'on-change')],
  });
  const db = vm('db', {
    networks: [{ network: 'backend', address: '10.77.1.10' }],
    disks: [{ name: 'data', sizeBytes: 2 * GiB }],
    provision: [step('packages'), step('schema'), step('seed')],
  });
  return project(
    [lb, web(1), web(2), web(3), db],
    [
      { name: 'default', mode: 'nat' },
      { name: 'backend', mode: 'isolated', subnet: '10.77.1.0/24' },
    ],
  );
}

/** The project with some machines replaced by changed ones. */
export function edit(before: Project, changes: Readonly<Record<string, Partial<Machine>>>): Project {
  return { ...before, machines: before.machines.map((machine) => ({ ...machine, ...changes[machine.name] })) };
}

export function without(before: Project, ...names: readonly string[]): Project {
  return { ...before, machines: before.machines.filter(({ name }) => !names.includes(name)) };
}

const running: Observed = { state: 'running', process };

/** A machine's record after an `up` that did everything; steps that never run by themselves are not done. */
function record(spec: Machine): MachineState {
  const done = spec.provision.filter(({ run }) => run !== 'never');
  return {
    spec: { ...spec, provision: [] },
    boxDigest: 'b1',
    addresses: [],
    createdAt: '2026-01-01T00:00:00Z',
    process,
    ready: true,
    steps: Object.fromEntries(
      done.map(({ name, fingerprint }) => [name, { fingerprint, doneAt: '2026-01-01T00:00:00Z' }]),
    ),
    provider: {},
  };
}

export const nothing: Observation = { state: undefined, machines: {}, sandboxAlive: false, servicesAlive: false };

/** All that an `up` of the project leaves, with the named machines observed otherwise. */
export function afterUp(wanted: Project, observed: Readonly<Record<string, Observed>> = {}): Observation {
  const state: State = {
    version: 1,
    serial: 7,
    projectId: 'p1',
    projectDir: wanted.dir,
    projectName: wanted.name,
    tsfileDigest: wanted.digest,
    sandbox: { holder: process, rooted: false, dnsmasq: process, uplink: process },
    networks: Object.fromEntries(
      wanted.networks.map((spec, index) => [
        spec.name,
        { spec, subnet: spec.subnet ?? `10.88.${index}.0/24`, gateway: '', bridge: `br${index}` },
      ]),
    ),
    machines: Object.fromEntries(wanted.machines.map((machine) => [machine.name, record(machine)])),
    ...(wanted.volumes === undefined
      ? {}
      : { volumes: Object.fromEntries(wanted.volumes.map(({ name, keep }) => [name, { keep }])) }),
  };
  return {
    state,
    machines: { ...Object.fromEntries(wanted.machines.map(({ name }) => [name, running])), ...observed },
    sandboxAlive: true,
    servicesAlive: true,
  };
}

/** What a `halt` of everything leaves: machines and networks are remembered, the sandbox is gone. */
export function afterHalt(wanted: Project): Observation {
  const { state, ...rest } = afterUp(wanted, everyMachine(wanted, { state: 'stopped', unexpectedly: false }));
  if (state === undefined) return nothing;
  const { sandbox: _, ...kept } = state;
  return { ...rest, state: kept, sandboxAlive: false, servicesAlive: false };
}

export function everyMachine(wanted: Project, observed: Observed): Record<string, Observed> {
  return Object.fromEntries(wanted.machines.map(({ name }) => [name, observed]));
}

/** The observation with one machine's record changed. */
export function withRecord(before: Observation, name: string, change: Partial<MachineState>): Observation {
  const { state } = before;
  const old = state?.machines[name];
  if (state === undefined || old === undefined) throw new Error(`no record of ${name}`);
  return { ...before, state: { ...state, machines: { ...state.machines, [name]: { ...old, ...change } } } };
}

/** Keeps only the named machines in the state: as if the others had not been made yet. */
export function onlyMade(before: Observation, ...names: readonly string[]): Observation {
  const { state } = before;
  if (state === undefined) return before;
  const keep = <T>(all: Readonly<Record<string, T>>) =>
    Object.fromEntries(Object.entries(all).filter(([name]) => names.includes(name)));
  return { ...before, state: { ...state, machines: keep(state.machines) }, machines: keep(before.machines) };
}

export function printed(request: ReconcileRequest): string {
  const plan = reconcile(request);
  assertWellFormed(plan);
  return printPlan(plan);
}

/** What every plan has to keep: ids 1, 2, 3 … and dependencies only on earlier nodes. */
function assertWellFormed(plan: Plan): void {
  plan.nodes.forEach(({ id, after }, index) => {
    if (id !== index + 1 || after.some((other) => other < 1 || other >= id)) {
      throw new Error(`node ${id} is out of order:\n${printPlan(plan)}`);
    }
  });
}

/** A plan's text, without the indentation that it has in the test file. */
export function text(parts: TemplateStringsArray): string {
  return parts
    .join('')
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '')
    .join('\n');
}

export const died: Observed = { state: 'stopped', unexpectedly: true };
export const stopped: Observed = { state: 'stopped', unexpectedly: false };
export const alive: Observed = running;
export const ended = (code: number): Observed => ({
  state: 'stopped',
  unexpectedly: true,
  ended: { at: '2026-01-01T00:00:00Z', why: 'exited', code },
});

/** The holder was killed: machines run on, in a sandbox that cannot be entered any more. */
export const holderDead = (wanted: Project): Observation => ({
  ...afterUp(wanted, everyMachine(wanted, { state: 'broken', reasons: ['its sandbox is gone'] })),
  sandboxAlive: false,
  servicesAlive: false,
});

export const GiB = 2 ** 30;

/** One VM. */
export const single = project([
  vm('db', { disks: [{ name: 'data', sizeBytes: 2 * GiB }], provision: [step('packages')] }),
]);

/** app needs queue and db, db needs queue. */
export const chain = project([
  container('app', {
    dependsOn: [
      { machine: 'queue', condition: 'started' },
      { machine: 'db', condition: 'started' },
    ],
  }),
  container('queue'),
  vm('db', { dependsOn: [{ machine: 'queue', condition: 'healthy' }] }),
]);

/** The load balancer with one replica less. */
export const withoutWeb3 = edit(without(loadBalancer(), 'web-3'), {
  lb: { dependsOn: loadBalancer().machines[0]?.dependsOn.filter(({ machine }) => machine !== 'web-3') ?? [] },
});

/** The load balancer with other networks. */
export const withNetworks = (networks: readonly Network[]): Project => ({ ...loadBalancer(), networks });
