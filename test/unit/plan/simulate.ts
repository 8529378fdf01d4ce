import { isCompleted } from '../../../src/model/ending.ts';
import type { Action, PlanNode } from '../../../src/model/plan.ts';
import type { Machine, Project } from '../../../src/model/project.ts';
import type {
  MachineState,
  NetworkState,
  Observation,
  Observed,
  State,
  VolumeState,
} from '../../../src/model/state.ts';
import { withLimits } from '../../../src/plan/changes.ts';
import { afterUp, ended, process } from './fixtures.ts';

/**
 * A world that does what actions promise and complains about actions that cannot work: a start without a sandbox,
 * network or free port, a create of what exists, a removal of a network that is in use.
 */
export class World {
  sandbox: { alive: boolean } | undefined;
  /** Networks that the state remembers, and those that the sandbox has. */
  readonly remembered = new Map<string, NetworkState>();
  readonly present = new Set<string>();
  readonly volumes = new Map<string, VolumeState>();
  readonly machines = new Map<string, { record: MachineState; observed: Observed }>();
  readonly #wanted: () => Project;

  constructor(wanted: () => Project) {
    this.#wanted = wanted;
  }

  observe(): Observation {
    const empty = afterUp({ ...this.#wanted(), machines: [], networks: [] }).state;
    if (empty === undefined) throw new Error('no state');
    const { sandbox, ...rest } = empty;
    const state: State = {
      ...rest,
      ...(this.sandbox !== undefined && sandbox !== undefined ? { sandbox } : {}),
      networks: Object.fromEntries(this.remembered),
      machines: Object.fromEntries([...this.machines].map(([name, { record }]) => [name, record])),
      volumes: Object.fromEntries(this.volumes),
    };
    return {
      state,
      machines: Object.fromEntries([...this.machines].map(([name, { observed }]) => [name, observed])),
      sandboxAlive: this.sandbox?.alive === true,
      servicesAlive: this.sandbox?.alive === true,
    };
  }

  /** kill -9 of the holder: machines run on in a sandbox that nobody can enter. */
  killHolder(): void {
    if (this.sandbox !== undefined) this.sandbox = { alive: false };
    this.present.clear();
    for (const machine of this.machines.values()) {
      if (machine.observed.state === 'running')
        machine.observed = { state: 'broken', reasons: ['its sandbox is gone'] };
    }
  }

  killMachine(name: string): void {
    const machine = this.machines.get(name);
    if (machine !== undefined && machine.observed.state !== 'stopped') {
      machine.observed = { state: 'stopped', unexpectedly: true };
    }
  }

  /** A one-shot machine ends by itself, well or not. */
  end(name: string, code: number): void {
    const machine = this.machines.get(name);
    if (machine?.observed.state === 'running' && machine.record.spec.oneshot === true) machine.observed = ended(code);
  }

  apply({ action }: PlanNode): void {
    switch (action.do) {
      case 'sandbox.ensure':
        this.sandbox = { alive: true };
        return;
      case 'sandbox.remove':
        this.#must(action, ![...this.machines.values()].some(({ observed }) => observed.state === 'running'));
        this.sandbox = undefined;
        this.present.clear();
        return;
      case 'network.ensure': {
        this.#must(action, this.sandbox?.alive === true);
        const spec = this.#wanted().networks.find(({ name }) => name === action.network);
        if (spec === undefined) throw new Error(`${action.network} is not wanted`);
        const before = this.remembered.get(spec.name);
        const subnet = spec.subnet ?? before?.subnet ?? '10.99.0.0/24';
        const changed = before !== undefined && (before.subnet !== subnet || before.spec.mode !== spec.mode);
        this.#must(action, !changed || !this.#inUse(spec.name));
        this.remembered.set(spec.name, { spec, subnet, gateway: '', bridge: '' });
        this.present.add(spec.name);
        return;
      }
      case 'network.remove':
        this.#must(action, !this.#inUse(action.network));
        this.remembered.delete(action.network);
        this.present.delete(action.network);
        return;
      case 'box.ensure':
      case 'image.ensure':
        return;
      case 'volume.ensure': {
        const volume = this.#wanted().volumes?.find(({ name }) => name === action.volume);
        if (volume === undefined) throw new Error(`${action.volume} is not wanted`);
        this.volumes.set(volume.name, { keep: volume.keep });
        return;
      }
      case 'volume.leave': {
        const volume = this.volumes.get(action.volume);
        if (volume === undefined) throw new Error(`there is no volume ${action.volume}`);
        this.volumes.set(action.volume, { ...volume, left: true });
        return;
      }
      case 'volume.keep':
      case 'volume.remove':
        this.#must(
          action,
          ![...this.machines.values()].some(({ record }) =>
            record.spec.volumes?.some(({ name }) => name === action.volume),
          ),
        );
        this.volumes.delete(action.volume);
        return;
      case 'machine.create': {
        const spec = this.#spec(action.machine);
        this.#must(action, !this.machines.has(spec.name));
        this.#must(
          action,
          spec.networks.every(({ network }) => this.remembered.has(network)),
        );
        this.#mustHaveVolumes(action, spec);
        const record: MachineState = {
          spec: { ...spec, provision: [] },
          boxDigest: 'b1',
          addresses: [],
          createdAt: '',
          ready: false,
          steps: {},
          provider: {},
        };
        this.machines.set(spec.name, { record, observed: { state: 'stopped', unexpectedly: false } });
        return;
      }
      case 'machine.start': {
        const machine = this.#machine(action);
        const spec = this.#spec(action.machine);
        this.#must(action, machine.observed.state === 'stopped');
        this.#must(
          action,
          this.sandbox?.alive === true && spec.networks.every(({ network }) => this.present.has(network)),
        );
        for (const { machine: other, condition } of spec.dependsOn) {
          const observed = this.machines.get(other)?.observed ?? { state: 'absent' };
          if (condition === 'completed') this.#must(action, isCompleted(this.#spec(other), observed));
          else this.#must(action, observed.state === 'running' || isCompleted(this.#spec(other), observed));
        }
        this.#mustOwnPorts(action, spec);
        this.#mustHaveVolumes(action, spec);
        const most = spec.kind === 'vm' ? { most: { memoryBytes: spec.memoryBytes, cpus: 2 } } : {};
        machine.record = { ...machine.record, ...most, spec: { ...spec, provision: [] }, process, ready: false };
        machine.observed = { state: 'running', process };
        return;
      }
      case 'machine.adjust': {
        const machine = this.#running(action);
        const { spec, most = { memoryBytes: 0, cpus: 0 } } = machine.record;
        const { memoryBytes, cpus, io } = this.#spec(action.machine);
        if (spec.kind === 'container') this.#must(action, (io === undefined) === (spec.io === undefined));
        else {
          const { memoryBytes: room = spec.memoryBytes } = most;
          const fits = most.memoryBytes === undefined ? memoryBytes === room : memoryBytes <= room;
          this.#must(action, fits && cpus <= most.cpus && cpus >= spec.cpus);
        }
        machine.record = { ...machine.record, spec: withLimits(spec, this.#spec(action.machine)) };
        return;
      }
      case 'machine.wait': {
        const machine = this.#running(action);
        const { forwards } = this.#spec(action.machine);
        this.#mustOwnPorts(action, this.#spec(action.machine));
        machine.record = { ...machine.record, ready: true, spec: { ...machine.record.spec, forwards } };
        return;
      }
      case 'machine.provision': {
        const machine = this.#running(action);
        this.#must(action, machine.record.ready);
        const step = this.#spec(action.machine).provision.find(({ name }) => name === action.step);
        if (step === undefined) throw new Error(`${action.step} is no step of ${action.machine}`);
        const done = { fingerprint: step.fingerprint, doneAt: '' };
        machine.record = { ...machine.record, steps: { ...machine.record.steps, [step.name]: done } };
        return;
      }
      case 'machine.healthy':
        this.#must(action, this.#running(action).record.ready);
        return;
      case 'machine.completed': {
        const machine = this.#machine(action);
        this.#must(action, this.#spec(action.machine).oneshot === true && machine.record.process !== undefined);
        machine.observed = ended(0);
        return;
      }
      case 'machine.stop': {
        const machine = this.#machine(action);
        const { process: _, ...record } = machine.record;
        machine.record = { ...record, ready: false };
        machine.observed = { state: 'stopped', unexpectedly: false };
        return;
      }
      case 'machine.destroy':
        this.#must(action, this.machines.get(action.machine)?.observed.state !== 'running');
        this.machines.delete(action.machine);
        return;
    }
  }

  #spec(name: string): Machine {
    const spec = this.#wanted().machines.find((machine) => machine.name === name);
    if (spec === undefined) throw new Error(`${name} is not wanted`);
    return spec;
  }

  #machine(action: Extract<Action, { machine: string }>) {
    const machine = this.machines.get(action.machine);
    if (machine === undefined) throw new Error(`${action.do} of ${action.machine}, which does not exist`);
    return machine;
  }

  #running(action: Extract<Action, { machine: string }>) {
    const machine = this.#machine(action);
    this.#must(action, machine.observed.state === 'running');
    return machine;
  }

  #inUse(network: string): boolean {
    return [...this.machines.values()].some(
      ({ record, observed }) =>
        observed.state === 'running' && record.spec.networks.some((attachment) => attachment.network === network),
    );
  }

  /** Forwards that their machine is no longer to have are closed as soon as another machine wants the port. */
  #mustOwnPorts(action: Action, { name, forwards }: Machine): void {
    for (const { record, observed } of this.machines.values()) {
      if (record.spec.name === name || observed.state !== 'running') continue;
      const still = this.#wanted().machines.find((machine) => machine.name === record.spec.name)?.forwards;
      const held = record.spec.forwards.filter(
        (f) => still === undefined || still.some((s) => s.hostPort === f.hostPort),
      );
      this.#must(action, !held.some((other) => forwards.some(({ hostPort }) => hostPort === other.hostPort)));
    }
  }

  #mustHaveVolumes(action: Action, { volumes = [] }: Machine): void {
    for (const { name } of volumes) this.#must(action, this.volumes.get(name)?.left === undefined);
    for (const { name } of volumes) this.#must(action, this.volumes.has(name));
  }

  #must(action: Action, holds: boolean): void {
    if (!holds) throw new Error(`cannot work now: ${JSON.stringify(action)}`);
  }
}
