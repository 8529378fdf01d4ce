import { removeVolumes } from '../../app/run.ts';
import { listVolumes } from '../../app/volumes.ts';
import type { Handler } from '../program.ts';
import { withProgress } from '../progress.ts';
import { jsonLine } from '../render/json.ts';
import { readTerminal } from '../render/terminal.ts';
import { renderVolumes } from '../render/volumes.ts';

export const list: Handler<{ json?: boolean; quiet?: boolean }> = async (session, _, options) => {
  const volumes = listVolumes(session.place);
  if (options.json === true) session.stdout.write(`${jsonLine(volumes)}\n`);
  else if (options.quiet === true) session.stdout.write(volumes.map(({ volume }) => `${volume}\n`).join(''));
  else session.stdout.write(renderVolumes(volumes, readTerminal(session.stdout, session.place.env)));
  return 0;
};

export const remove: Handler<{ json?: boolean; quiet?: boolean }> = async (session, targets, options) => {
  const { place, commandLine } = session;
  await withProgress(session, options, (emit, signal) =>
    removeVolumes({ place, targets, commandLine, parallel: 1, emit, signal }),
  );
  return 0;
};
