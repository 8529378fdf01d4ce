/** One small idempotent action, with the names it works on. */
export type Action =
  | { readonly do: 'sandbox.ensure' }
  | { readonly do: 'sandbox.remove' }
  | { readonly do: 'network.ensure'; readonly network: string }
  | { readonly do: 'network.remove'; readonly network: string }
  /** `leave`: the Tsfile no longer has it. `keep`: the project goes, and it stays. */
  | {
      readonly do: 'volume.ensure' | 'volume.leave' | 'volume.keep' | 'volume.remove';
      readonly volume: string;
    }
  | { readonly do: 'box.ensure'; readonly box: string; readonly kind: 'vm' | 'container' }
  | { readonly do: 'box.warm'; readonly box: string }
  /** `image`: a reference in full. */
  | { readonly do: 'image.ensure'; readonly image: string }
  | { readonly do: 'image.push'; readonly image: string }
  /** `archive`: a file, a folder, or what a pipe is called. */
  | { readonly do: 'image.load' | 'image.save'; readonly archive: string }
  | { readonly do: 'store.gc' | 'store.verify' }
  /** `from`: a layer of the provision cache, by its key, and the steps whose work is in it. */
  | {
      readonly do: 'machine.create';
      readonly machine: string;
      readonly from?: { readonly layer: string; readonly steps: readonly string[] };
    }
  | { readonly do: 'machine.start'; readonly machine: string }
  /** Limits of a machine that runs on. */
  | { readonly do: 'machine.adjust'; readonly machine: string }
  | { readonly do: 'machine.wait'; readonly machine: string }
  /** `layer`: the key under which what it has made is kept; `anew`: even where there is one of this key. */
  | {
      readonly do: 'machine.provision';
      readonly machine: string;
      readonly step: string;
      readonly layer?: string;
      readonly anew?: boolean;
    }
  /** A step that need not run: the machine was made from its layer. */
  | { readonly do: 'machine.cached'; readonly machine: string; readonly step: string }
  /** Layers of the provision cache, by their keys, that no machine is made from any more. */
  | { readonly do: 'machine.forget'; readonly machine: string; readonly layers: readonly string[] }
  | { readonly do: 'machine.healthy'; readonly machine: string }
  /** A one-shot machine ends with 0. */
  | { readonly do: 'machine.completed'; readonly machine: string }
  | { readonly do: 'machine.stop'; readonly machine: string }
  | { readonly do: 'machine.pause' | 'machine.unpause'; readonly machine: string }
  /** To disk and back; a container is halted. */
  | { readonly do: 'machine.suspend' | 'machine.resume'; readonly machine: string }
  /** All of them at one moment. */
  | SnapshotSave
  | SnapshotRestore
  | { readonly do: 'snapshot.delete'; readonly snapshot: string }
  | { readonly do: 'machine.rename'; readonly machine: string; readonly to: string }
  /** `machine` is new, and what `from` is on disk. */
  | { readonly do: 'machine.clone'; readonly machine: string; readonly from: string }
  /** `keep`: what the machine that takes its place finds again. */
  | {
      readonly do: 'machine.destroy';
      readonly machine: string;
      readonly keep?: 'volumes' | 'disks' | 'volumes and disks';
    };

export interface SnapshotSave {
  readonly do: 'snapshot.save';
  readonly snapshot: string;
  readonly machines: readonly string[];
  /** In the place of one of its name. */
  readonly replace: boolean;
}

/** Stops the machines and sets them back together; virtual machines with memory go on, containers are still to be started. */
export interface SnapshotRestore {
  readonly do: 'snapshot.restore';
  readonly snapshot: string;
  readonly machines: readonly string[];
  /** Virtual machines without their memory, as after a power cut: they do not run then. */
  readonly disksOnly: boolean;
}

export interface PlanNode {
  /** 1, 2, 3 … in the order of the plan; dependencies always have a smaller id. */
  readonly id: number;
  readonly action: Action;
  /** Why this is to be done, in a few words: `not running`, `box changed`. */
  readonly cause: string;
  readonly after: readonly number[];
}

export interface Plan {
  readonly nodes: readonly PlanNode[];
}

export type StepOutcome = 'done' | 'failed' | 'skipped' | 'cancelled';
