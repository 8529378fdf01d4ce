import type { Action, Plan, PlanNode } from '../model/plan.ts';
import { shortReference } from '../model/reference.ts';

/** One line per node, `[3] <- 1,2  machine.start web-1  (not running)`; `nothing to do` for an empty plan. */
export function printPlan(plan: Plan): string {
  if (plan.nodes.length === 0) return 'nothing to do';
  return plan.nodes.map(printNode).join('\n');
}

function printNode({ id, action, cause, after }: PlanNode): string {
  const arrow = after.length === 0 ? '' : ` <- ${after.join(',')}`;
  return `[${id}]${arrow}  ${printAction(action)}  (${cause})`;
}

/** The action in the plan's own words, e.g. `machine.start web-1`; also its name in the journal. */
export function printAction(action: Action): string {
  switch (action.do) {
    case 'sandbox.ensure':
    case 'sandbox.remove':
    case 'store.gc':
    case 'store.verify':
      return action.do;
    case 'network.ensure':
    case 'network.remove':
      return `${action.do} ${action.network}`;
    case 'volume.ensure':
    case 'volume.leave':
    case 'volume.keep':
    case 'volume.remove':
      return `${action.do} ${action.volume}`;
    case 'box.ensure':
      return `${action.do} ${action.box} ${action.kind}`;
    case 'box.warm':
      return `${action.do} ${action.box}`;
    case 'image.ensure':
    case 'image.push':
      return `${action.do} ${action.image}`;
    case 'image.load':
    case 'image.save':
      return `${action.do} ${action.archive}`;
    case 'machine.provision':
      return `${action.do} ${action.machine} ${action.step}${action.layer === undefined ? '' : ' (is kept)'}`;
    case 'machine.cached':
      return `${action.do} ${action.machine} ${action.step}`;
    case 'machine.create':
      return `${action.do} ${action.machine}${action.from === undefined ? '' : ` (with ${action.from.steps.join(', ')})`}`;
    case 'machine.forget':
    case 'machine.start':
    case 'machine.adjust':
    case 'machine.wait':
    case 'machine.healthy':
    case 'machine.completed':
    case 'machine.stop':
    case 'machine.pause':
    case 'machine.unpause':
    case 'machine.suspend':
    case 'machine.resume':
      return `${action.do} ${action.machine}`;
    case 'snapshot.save':
    case 'snapshot.restore':
      return `${action.do} ${action.snapshot} ${action.machines.join(' ')}`;
    case 'snapshot.delete':
      return `${action.do} ${action.snapshot}`;
    case 'machine.rename':
      return `${action.do} ${action.machine} to ${action.to}`;
    case 'machine.clone':
      return `${action.do} ${action.machine} from ${action.from}`;
    case 'machine.destroy':
      return `${action.do} ${action.machine}${action.keep === undefined ? '' : ` (keeps ${action.keep})`}`;
  }
}

/** The action for people, e.g. `start web-1`. */
export function describeAction(action: Action): string {
  switch (action.do) {
    case 'sandbox.ensure':
      return 'set up the sandbox';
    case 'sandbox.remove':
      return 'remove the sandbox';
    case 'network.ensure':
      return `set up network ${action.network}`;
    case 'network.remove':
      return `remove network ${action.network}`;
    case 'volume.ensure':
      return `set up volume ${action.volume}`;
    case 'volume.leave':
    case 'volume.keep':
      return `keep volume ${action.volume}`;
    case 'volume.remove':
      return `remove volume ${action.volume}`;
    case 'box.ensure':
      return `get box ${action.box} (${action.kind})`;
    case 'box.warm':
      return `make a template of ${action.box} for warm starts`;
    case 'image.ensure':
      return `get image ${shortReference(action.image)}`;
    case 'image.push':
      return `push image ${shortReference(action.image)}`;
    case 'image.load':
      return `load images from ${action.archive}`;
    case 'image.save':
      return `save images to ${action.archive}`;
    case 'store.gc':
      return 'remove what nobody uses from the store';
    case 'store.verify':
      return 'verify the store';
    case 'machine.create':
      return `create ${action.machine}`;
    case 'machine.start':
      return `start ${action.machine}`;
    case 'machine.adjust':
      return `adjust ${action.machine}`;
    case 'machine.wait':
      return `wait for ${action.machine}`;
    case 'machine.provision':
      return `provision ${action.machine}: ${action.step}`;
    case 'machine.cached':
      return `take ${action.step} of ${action.machine} from the cache`;
    case 'machine.forget':
      return `forget what is cached of ${action.machine}`;
    case 'machine.healthy':
      return `check health of ${action.machine}`;
    case 'machine.completed':
      return `wait until ${action.machine} has completed`;
    case 'machine.stop':
      return `stop ${action.machine}`;
    case 'machine.pause':
      return `pause ${action.machine}`;
    case 'machine.unpause':
      return `unpause ${action.machine}`;
    case 'machine.suspend':
      return `suspend ${action.machine}`;
    case 'machine.resume':
      return `resume ${action.machine}`;
    case 'snapshot.save':
      return `save ${action.machines.join(', ')} as ${action.snapshot}`;
    case 'snapshot.restore':
      return `set ${action.machines.join(', ')} back to ${action.snapshot}`;
    case 'snapshot.delete':
      return `delete snapshot ${action.snapshot}`;
    case 'machine.rename':
      return `rename ${action.machine} to ${action.to}`;
    case 'machine.clone':
      return `copy ${action.from} to ${action.machine}`;
    case 'machine.destroy':
      return `destroy ${action.machine}${action.keep === undefined ? '' : `, but for its ${action.keep}`}`;
  }
}
