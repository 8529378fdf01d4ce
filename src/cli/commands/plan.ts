import { cacheView } from '../../app/cache.ts';
import { requirePossible } from '../../app/host.ts';
import { loadLocked } from '../../app/lock.ts';
import { reconcile } from '../../plan/reconcile.ts';
import { observe } from '../../state/observe.ts';
import { readState } from '../../state/store.ts';
import type { Handler } from '../program.ts';
import { renderPlan } from '../render/plan.ts';
import { readTerminal } from '../render/terminal.ts';

const changesCode = 2;

export const plan: Handler<{ json?: boolean }> = async (session, targets, options) => {
  const { project } = await loadLocked(session.place);
  requirePossible(project);
  const cache = await cacheView(session.place, project);
  const result = reconcile({
    command: 'up',
    wanted: project,
    observation: observe(readState(project.dir)),
    targets,
    ...(cache === undefined ? {} : { options: { cache } }),
  });
  session.stdout.write(
    options.json === true
      ? `${JSON.stringify(result)}\n`
      : renderPlan(result, readTerminal(session.stdout, session.place.env)),
  );
  return result.nodes.length === 0 ? 0 : changesCode;
};
