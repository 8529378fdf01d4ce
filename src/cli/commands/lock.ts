import { updateLocks, writeLocks } from '../../app/lock.ts';
import { describeChange, type LockChange } from '../../lockfile/apply.ts';
import { lockFileName } from '../../lockfile/format.ts';
import type { Handler, Session } from '../program.ts';
import { withProgress } from '../progress.ts';
import { harmless } from '../render/text.ts';

const changesCode = 2;

export const lock: Handler<{ check?: boolean; json?: boolean }> = async (session, _, options) => {
  const check = options.check === true;
  const { changes } = await withProgress(session, { quiet: true }, (_emit, signal) =>
    check ? updateLocks(session.place, [], { signal, write: false }) : writeLocks(session.place, signal),
  );
  if (options.json === true) print(session, changes);
  else if (changes.length === 0) session.stdout.write(`${lockFileName} is as it should be.\n`);
  else for (const change of changes) session.stdout.write(`${check ? news(change) : line(change)}\n`);
  return check && changes.length > 0 ? changesCode : 0;
};

export const update: Handler<{ json?: boolean }> = async (session, names, options) => {
  const { changes } = await withProgress(session, { quiet: true }, (_emit, signal) =>
    updateLocks(session.place, names, { signal, write: true }),
  );
  if (options.json === true) print(session, changes);
  else if (changes.length === 0) session.stdout.write('Nothing is newer.\n');
  else {
    for (const change of changes) session.stdout.write(`${line(change)}\n`);
    session.stderr.write('tsv up takes them.\n');
  }
  return 0;
};

const line = (change: LockChange): string => harmless(describeChange(change));

/** What `lock --check` found. */
function news(change: LockChange): string {
  const { kind, name, before, after } = change;
  if (before === undefined || after === undefined) return line(change);
  return kind === 'image'
    ? `${harmless(name)} is another image now; tsv update takes it`
    : `the recipe of box ${harmless(name)} is another one now; tsv update takes it`;
}

const print = (session: Session, changes: readonly LockChange[]): boolean =>
  session.stdout.write(`${JSON.stringify({ changes })}\n`);
