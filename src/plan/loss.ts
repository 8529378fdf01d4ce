import { TsvError } from '../model/errors.ts';
import type { Observation } from '../model/state.ts';

/** A machine cannot be made anew from something else, and keep what was saved of it: that loses nothing unsaid. @throws TSV_IN_USE */
export function refuseLoss(names: readonly string[], { snapshots = [] }: Observation): void {
  for (const name of names) {
    const having = snapshots.filter(({ machines }) => machines[name] !== undefined).map((snapshot) => snapshot.name);
    if (having.length === 0) continue;
    throw new TsvError('TSV_IN_USE', `${name} would be made anew, and its snapshots would go with it`, {
      details: [`it is in ${having.join(', ')}`],
      hint: `tsv snapshot delete ${having.join(' ')}, or tsv destroy ${name}, which removes them, too; then tsv up`,
    });
  }
}
