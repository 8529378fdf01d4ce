import { TsvError } from '../model/errors.ts';
import type { MachineState } from '../model/state.ts';
import { whyRestart } from '../plan/changes.ts';
import { type ActionContext, machineOf } from './action-context.ts';
import { requireRunning, suspendTag } from './machines.ts';
import type { Records } from './records.ts';
import { goOn, type StandStillParts } from './stand-still.ts';

/*
 * What the record says while a virtual machine is suspended and resumed, so that a kill at any point loses nothing:
 *
 *                 it runs   stands still   is saved          QEMU ends           QEMU loads          it runs
 *   saving                  tsv-suspend    tsv-suspend                                 tsv-suspend
 *   suspended                              {…}               {…}                 {…}
 *
 * One that is alive with `saving` goes on; one that is alive with `suspended` alone has not got its memory back, and is ended.
 */

/** Machines to disk and back. */
export class Suspension {
  private readonly options: StandStillParts;
  private readonly records: Records;

  constructor(options: StandStillParts) {
    this.options = options;
    this.records = options.records;
  }

  /** A virtual machine with its memory; a container ends, and is started by `resume`. */
  suspend(name: string, { signal }: ActionContext): Promise<void> {
    const { lives, readiness, supervisor } = this.options;
    supervisor.forget(name);
    return supervisor.inTurn(name, async () => {
      const record = this.records.of(name);
      requireRunning(record);
      const provider = this.records.provider(record);
      if (record.spec.kind === 'container') {
        await lives.end(name, {
          force: false,
          suspended: { at: new Date().toISOString(), memory: false, provider: {} },
        });
        this.options.happened(name, { type: 'suspended' });
        return;
      }
      // Of an earlier time, whose memory was thrown away.
      await provider.snapshots.delete(this.records.context(name), suspendTag);
      await lives.release(name);
      await this.records.update(name, (current) => ({ ...current, saving: suspendTag }));
      try {
        await provider.pause(this.records.context(name), true);
        const at = new Date().toISOString();
        const { provider: kept } = await provider.snapshots.save(this.records.context(name), suspendTag, signal);
        const suspended = { at, memory: true, provider: kept };
        await this.records.update(name, (current) => ({ ...current, suspended }));
        await lives.end(name, { force: true, suspended });
      } catch (error) {
        await goOn(this.options, name);
        await lives.ensureForwards(name);
        readiness.watchHealth(name);
        throw error;
      }
      this.options.happened(name, { type: 'suspended' });
    });
  }

  /** @throws TSV_SNAPSHOT when its memory cannot be had: it is suspended as before */
  resume(name: string, context: ActionContext): Promise<void> {
    const { lives, supervisor } = this.options;
    supervisor.forget(name);
    return supervisor.inTurn(name, async () => {
      const record = this.records.of(name);
      const { suspended } = record;
      if (suspended?.memory !== true) return;
      const { snapshots } = this.records.provider(record);
      const load = { tag: suspendTag, memory: true, provider: suspended.provider };
      const problem = await snapshots.problem(this.records.context(name), load);
      if (problem !== undefined) {
        throw new TsvError('TSV_SNAPSHOT', `${name} cannot go on where it was suspended`, {
          details: [problem],
          hint: `tsv halt ${name}   # throws its memory away, then: tsv up ${name}`,
        });
      }
      // As it was, whatever the Tsfile says by now.
      await lives.launch(name, { ...context, project: undefined }, ({ restarts: _, ...rest }) => rest, load);
      supervisor.watch(name);
      await this.records.update(name, ({ suspended: _, ...rest }: MachineState) => ({
        ...rest,
        behind: true,
        saving: suspendTag,
      }));
      await goOn(this.options, name);
      await snapshots.delete(this.records.context(name), suspendTag);
      this.options.happened(name, { type: 'resumed' });
      const wanted = machineOf(context.project, name);
      const why = wanted === undefined ? undefined : whyRestart(record.spec, wanted);
      if (why !== undefined)
        context.emit({
          type: 'notice',
          machine: name,
          text: `it goes on as it was (${why}): the next tsv up takes that over`,
        });
    });
  }
}
