import { isDeepStrictEqual } from 'node:util';
import { TsvError, toTsvError } from '../model/errors.ts';
import type { SnapshotRestore, SnapshotSave } from '../model/plan.ts';
import type { SavedMachine, SavedPart, Snapshot } from '../model/snapshot.ts';
import type { MachineState } from '../model/state.ts';
import { notRestored } from '../plan/snapshots.ts';
import { readSnapshots, removeSnapshot, writeSnapshot } from '../state/snapshots.ts';
import { isAlive } from '../sys/process.ts';
import { type ActionContext, byItself } from './action-context.ts';
import { suspendTag } from './machines.ts';
import type { Records } from './records.ts';
import { goOn, type StandStillParts } from './stand-still.ts';

/** What providers keep something under. */
const newTag = (): string => `tsv-${Buffer.from(crypto.getRandomValues(new Uint8Array(8))).toString('hex')}`;

/*
 * A snapshot is there when its file is, which is written last and removed first. What providers keep under a tag that no file
 * has is left of a command that was cut short, and goes before the next one works.
 */

/** Snapshots of a project's machines. */
export class ProjectSnapshots {
  private readonly options: StandStillParts;
  private readonly records: Records;

  constructor(options: StandStillParts) {
    this.options = options;
    this.records = options.records;
  }

  private get projectDir(): string {
    return this.records.state.projectDir;
  }

  private find(name: string): Snapshot | undefined {
    return readSnapshots(this.projectDir).find((snapshot) => snapshot.name === name);
  }

  /** In the turn of all of them: nothing else starts or ends one. */
  private inTurns<T>(names: readonly string[], work: () => Promise<T>): Promise<T> {
    const [first, ...rest] = names;
    return first === undefined ? work() : this.options.supervisor.inTurn(first, () => this.inTurns(rest, work));
  }

  private keeperOf(name: string) {
    const record = this.records.of(name);
    return { record, context: this.records.context(name), provider: this.records.provider(record) };
  }

  async save({ snapshot: name, machines, replace }: SnapshotSave, { signal }: ActionContext): Promise<void> {
    const tag = newTag();
    const before = replace ? this.find(name) : undefined;
    await this.inTurns(machines, async () => {
      for (const machine of machines) await this.tidy(machine);
      try {
        const snapshot = { version: 1, name, ...(await this.saveAtOnce(machines, tag, signal)) } as const;
        await writeSnapshot(this.projectDir, snapshot);
      } catch (error) {
        // What cannot be removed now goes before the next save.
        await Promise.allSettled(machines.map((machine) => this.remove(machine, tag)));
        throw error;
      }
    });
    for (const machine of machines) this.options.happened(machine, { type: 'saved', snapshot: name });
    for (const [machine, part] of Object.entries(before?.machines ?? {})) await this.remove(machine, part.tag);
  }

  /** All that run stand still, are saved side by side, and go on, whatever comes of it. */
  private async saveAtOnce(
    names: readonly string[],
    tag: string,
    signal: AbortSignal,
  ): Promise<Pick<Snapshot, 'at' | 'machines'>> {
    const before = new Map(
      names.map((name) => {
        const { spec, boxDigest, addresses, steps, ...record } = this.records.of(name);
        return [name, { was: stateOf(record), spec, boxDigest, addresses, steps }];
      }),
    );
    const awake = names.filter((name) => before.get(name)?.was === 'running');
    // Written down first: what stood still unknown to the state would stay so.
    for (const name of awake) this.options.readiness.health.stop(name);
    await Promise.all(awake.map((name) => this.records.update(name, (record) => ({ ...record, saving: tag }))));
    let at = '';
    let parts: readonly PromiseSettledResult<SavedPart>[] = [];
    try {
      await together(awake, (name) => this.standStill(name, true));
      at = new Date().toISOString();
      signal.throwIfAborted();
      parts = await Promise.allSettled(
        names.map((name) => {
          const { provider, context } = this.keeperOf(name);
          return provider.snapshots.save(context, tag, signal);
        }),
      );
    } finally {
      await together(awake, (name) => goOn(this.options, name));
    }
    signal.throwIfAborted();
    requireAll(parts, names);
    const machines = names.map((name, index): [string, SavedMachine] => {
      const [part, record] = [parts[index], before.get(name)];
      if (part?.status !== 'fulfilled' || record === undefined) throw new TsvError('TSV_INTERNAL', 'nothing was saved');
      return [name, { ...part.value, ...record, tag }];
    });
    return { at, machines: Object.fromEntries(machines) };
  }

  private async standStill(name: string, still: boolean): Promise<void> {
    const { provider, context } = this.keeperOf(name);
    await provider.pause(context, still);
  }

  /** Removes what no snapshot has. */
  private async tidy(name: string): Promise<void> {
    const { provider, context, record } = this.keeperOf(name);
    const known = new Set(readSnapshots(this.projectDir).map(({ machines }) => machines[name]?.tag));
    if (record.suspended?.memory === true) known.add(suspendTag);
    for (const tag of await provider.snapshots.tags(context))
      if (tag.startsWith('tsv-') && !known.has(tag)) await provider.snapshots.delete(context, tag);
  }

  private async remove(name: string, tag: string): Promise<void> {
    if (this.records.find(name) === undefined) return;
    const { provider, context } = this.keeperOf(name);
    await provider.snapshots.delete(context, tag);
  }

  async delete(name: string): Promise<void> {
    const machines = Object.entries(this.find(name)?.machines ?? {});
    removeSnapshot(this.projectDir, name);
    await this.inTurns(
      machines.map(([machine]) => machine).filter((machine) => this.records.find(machine) !== undefined),
      async () => {
        for (const [machine] of machines) if (this.records.find(machine) !== undefined) await this.tidy(machine);
      },
    );
  }

  /** Asked first, of all of them; then they are stopped, set back, and go on together. */
  async restore({ snapshot: name, machines, disksOnly }: SnapshotRestore, context: ActionContext): Promise<void> {
    const snapshot = this.find(name);
    if (snapshot === undefined) throw new TsvError('TSV_USAGE', `this project has no snapshot ${name}`);
    const savedOf = (machine: string): SavedMachine => {
      const saved = snapshot.machines[machine];
      if (saved === undefined) throw new TsvError('TSV_INTERNAL', `the snapshot ${name} has no ${machine}`);
      return disksOnly ? { ...saved, memory: false } : saved;
    };
    await this.inTurns(machines, async () => {
      const problems = await Promise.all(
        machines.map(async (machine) => {
          const { provider, context } = this.keeperOf(machine);
          const why = await provider.snapshots.problem(context, savedOf(machine));
          return why === undefined ? [] : [`${machine}: ${why}`];
        }),
      );
      if (problems.flat().length > 0) throw notRestored(name, problems.flat());
      context.signal.throwIfAborted();
      const back = await Promise.allSettled(
        machines.map((machine) => this.setBack(machine, name, savedOf(machine), context)),
      );
      // Only now: what they had to do with each other goes on for all at once.
      const there = machines.filter((_, index) => back[index]?.status === 'fulfilled');
      await together(there, (machine) => this.letGo(machine, savedOf(machine)));
      requireAll(back, machines);
    });
    for (const machine of machines) this.options.happened(machine, { type: 'restored', snapshot: name });
  }

  /** A machine with memory stands still afterwards; others do not run. */
  private async setBack(name: string, snapshot: string, saved: SavedMachine, context: ActionContext): Promise<void> {
    const { lives, supervisor } = this.options;
    const { provider, record } = this.keeperOf(name);
    supervisor.forget(name);
    const { spec, addresses, steps, tag } = saved;
    if (await this.rewind(name, snapshot, saved)) return;
    if (record.process !== undefined || record.suspended !== undefined) await lives.end(name, { force: true });
    await this.records.update(name, (record) => ({ ...record, spec, addresses, steps, restoring: snapshot }));
    if (saved.memory) {
      // Interrupted in the middle, it would be neither this nor that.
      const goingOn = { ...byItself(new AbortController().signal), emit: context.emit };
      await lives.launch(name, goingOn, ({ restarts: _, ...record }) => ({ ...record, behind: true }), saved);
      supervisor.watch(name);
      // It stands still until all of them are there.
      await this.records.update(name, ({ restoring: _, ...record }) => ({ ...record, saving: tag }));
      return;
    }
    await provider.snapshots.restore(this.records.context(name), tag);
    await this.records.update(name, ({ restoring: _, ...record }) => record);
  }

  /** Sets a machine back that goes on in the same process, standing still; false: that is not possible. */
  private async rewind(name: string, snapshot: string, saved: SavedMachine): Promise<boolean> {
    const { lives } = this.options;
    const { provider, record, context } = this.keeperOf(name);
    const { spec, addresses, steps, tag } = saved;
    const outside = ({ hostname, cpus, memoryBytes, disks }: SavedMachine['spec']) => [
      hostname,
      cpus,
      memoryBytes,
      disks,
    ];
    const isSame = isDeepStrictEqual([record.addresses, outside(record.spec)], [addresses, outside(spec)]);
    if (!saved.memory || !isSame || !isAlive(record.process)) return false;
    await lives.release(name);
    await this.records.update(name, (current) => ({ ...current, restoring: snapshot }));
    try {
      if ((await provider.snapshots.rewind?.(context, saved)) !== true) return false;
    } catch (error) {
      console.error(`${name}: it starts anew, since it did not go back as it is: ${toTsvError(error).message}`);
      return false;
    }
    // Its process, which is watched, is the same. It stands still until all of them are there.
    await this.records.update(name, ({ paused: _, health: _1, restarts: _2, restoring: _3, ...current }) => ({
      ...current,
      ...{ spec, addresses, steps, ready: false, behind: true, saving: tag },
    }));
    await lives.ensureForwards(name).catch(() => {}); // who waits for it tries again, and says why it fails
    return true;
  }

  private async letGo(name: string, { memory, was }: SavedMachine): Promise<void> {
    if (!memory) return;
    if (was === 'paused') await this.records.update(name, ({ saving: _, ...record }) => ({ ...record, paused: true }));
    else await goOn(this.options, name);
  }
}

const stateOf = ({ process, paused }: Pick<MachineState, 'process' | 'paused'>): SavedMachine['was'] =>
  !isAlive(process) ? 'stopped' : paused === true ? 'paused' : 'running';

/** All of them, to the end of each. @throws what went wrong, as one error */
async function together(names: readonly string[], work: (name: string) => Promise<void>): Promise<void> {
  requireAll(await Promise.allSettled(names.map(work)), names);
}

function requireAll(results: readonly PromiseSettledResult<unknown>[], names: readonly string[]): void {
  const failed = results.flatMap((result, index) =>
    result.status === 'rejected' ? [{ name: names[index], error: toTsvError(result.reason) }] : [],
  );
  const [first, ...more] = failed;
  if (first === undefined) return;
  if (more.length === 0) throw first.error;
  throw new TsvError(first.error.code, `${failed.length} of ${names.length} machines failed`, {
    details: failed.flatMap(({ name, error }) => [
      `${name}: ${error.message}`,
      ...error.details.map((one) => `  ${one}`),
    ]),
    ...(first.error.hint === undefined ? {} : { hint: first.error.hint }),
  });
}
