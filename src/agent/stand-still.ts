import type { MachineHappening } from '../model/machine-event.ts';
import { isAlive } from '../sys/process.ts';
import { asStopped, type Lives } from './lives.ts';
import type { Readiness } from './readiness.ts';
import type { Records } from './records.ts';
import type { Supervisor } from './supervisor.ts';

/** What saves machines and brings them back is made of. */
export interface StandStillParts {
  readonly records: Records;
  readonly lives: Lives;
  readonly readiness: Readiness;
  readonly supervisor: Supervisor;
  happened(machine: string, event: MachineHappening): void;
}

/** What stood still to be saved, or has got its memory back, goes on. One that has ended meanwhile does not. In its turn. */
export async function goOn({ records, readiness }: StandStillParts, name: string): Promise<void> {
  const record = records.of(name);
  const alive = isAlive(record.process);
  if (alive) await records.provider(record).pause(records.context(name), false);
  await records.update(name, ({ saving: _, suspended, ...current }) =>
    alive || suspended === undefined ? current : { ...current, suspended },
  );
  readiness.watchHealth(name);
}

/** What an agent that was killed has left of a machine between running and not. Before anything else is done to it. */
export function adoptHalfDone(parts: StandStillParts, name: string): Promise<void> {
  const { records, lives, supervisor } = parts;
  return supervisor.inTurn(name, async () => {
    const { saving, suspended, restoring, process } = records.of(name);
    if (!isAlive(process)) {
      if (suspended !== undefined && process !== undefined)
        await records.update(name, (current) => ({ ...asStopped(current), suspended }));
      else if (saving !== undefined) await records.update(name, ({ saving: _, ...current }) => current);
    } else if (saving !== undefined) await goOn(parts, name);
    else if (suspended !== undefined) await lives.end(name, { force: true, suspended });
    // Its memory is half of then, half of nothing.
    else if (restoring !== undefined) await lives.end(name, { force: true });
  });
}
