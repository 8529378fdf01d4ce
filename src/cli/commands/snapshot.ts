import { deleteSnapshots, lastPushed, listSnapshots, restoreSnapshot, saveSnapshot } from '../../app/snapshot.ts';
import type { Handler, Session } from '../program.ts';
import { withProgress } from '../progress.ts';
import { jsonLine } from '../render/json.ts';
import { renderSnapshots } from '../render/snapshots.ts';
import { readTerminal } from '../render/terminal.ts';

interface Options {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

const common = ({ place, commandLine }: Session, targets: readonly string[]) => ({
  place,
  targets,
  commandLine,
  parallel: 8,
});

const saving =
  (pushed: boolean): Handler<Options & { force?: boolean }> =>
  async (session, args, options) => {
    const name = pushed ? undefined : args[0];
    const targets = pushed ? args : args.slice(1);
    const saved = await withProgress(session, options, (emit, signal) =>
      saveSnapshot({
        ...common(session, targets),
        ...(name === undefined ? {} : { name }),
        replace: options.force === true,
        pushed,
        emit,
        signal,
      }),
    );
    if (options.json !== true && options.quiet !== true)
      session.stderr.write(
        pushed ? 'Go back to it with: tsv snapshot pop\n' : `Go back to it with: tsv snapshot restore ${saved}\n`,
      );
    return 0;
  };

export const save = saving(false);
export const push = saving(true);

export const restore: Handler<Options & { disksOnly?: boolean }> = async (
  session,
  [name = '', ...targets],
  options,
) => {
  await withProgress(session, options, (emit, signal) =>
    restoreSnapshot({
      ...common(session, targets),
      name,
      drop: false,
      disksOnly: options.disksOnly === true,
      emit,
      signal,
    }),
  );
  return 0;
};

export const pop: Handler<Options & { delete: boolean }> = async (session, _, options) => {
  const name = lastPushed(session);
  await withProgress(session, options, (emit, signal) =>
    restoreSnapshot({ ...common(session, []), name, drop: options.delete, disksOnly: false, emit, signal }),
  );
  return 0;
};

export const remove: Handler<Options> = async (session, targets, options) => {
  await withProgress(session, options, (emit, signal) =>
    deleteSnapshots({ ...common(session, targets), emit, signal }),
  );
  return 0;
};

export const list: Handler<Options> = async (session, targets, options) => {
  const snapshots = listSnapshots({ place: session.place, targets });
  if (options.json === true) session.stdout.write(`${jsonLine(snapshots)}\n`);
  else if (options.quiet === true) session.stdout.write(snapshots.map(({ snapshot }) => `${snapshot}\n`).join(''));
  else session.stdout.write(renderSnapshots(snapshots, readTerminal(session.stdout, session.place.env)));
  return 0;
};
