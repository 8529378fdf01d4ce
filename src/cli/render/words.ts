import type { Action } from '../../model/plan.ts';
import { shortReference } from '../../model/reference.ts';

/** How one action is called beneath the name of what it works on. */
export interface Words {
  /** Under which name it is shown: a machine's, `network`, `volume NAME`, `box NAME` or `image NAME:TAG`. */
  readonly row: string;
  /** As an order, `start`. */
  readonly todo: string;
  /** While it runs, `starting`. */
  readonly doing: string;
  /** Afterwards, `started`. */
  readonly did: string;
  /** What the row is when this was its last action, `ready`. */
  readonly result: string;
}

/** The words for an action, the same in every kind of output. */
export function wordsOf(action: Action): Words {
  switch (action.do) {
    case 'sandbox.ensure':
      return words('network', 'set up the sandbox', 'setting up the sandbox', 'sandbox set up', 'ready');
    case 'sandbox.remove':
      return words('network', 'remove the sandbox', 'removing the sandbox', 'sandbox removed', 'removed');
    case 'network.ensure':
      return words(
        'network',
        `set up ${action.network}`,
        `setting up ${action.network}`,
        `${action.network} set up`,
        'ready',
      );
    case 'network.remove':
      return words(
        'network',
        `remove ${action.network}`,
        `removing ${action.network}`,
        `${action.network} removed`,
        'removed',
      );
    case 'volume.ensure':
      return words(`volume ${action.volume}`, 'set up', 'setting up', 'set up', 'ready');
    case 'volume.leave':
    case 'volume.keep':
      return words(`volume ${action.volume}`, 'keep', 'keeping', `kept in .ts-vm/volumes/${action.volume}`, 'kept');
    case 'volume.remove':
      return words(`volume ${action.volume}`, 'remove', 'removing', 'removed', 'removed');
    case 'box.ensure': {
      const use = action.kind === 'vm' ? 'for VMs' : 'for containers';
      return words(`box ${action.box}`, `prepare ${use}`, `preparing ${use}`, `ready ${use}`, 'ready');
    }
    case 'box.warm':
      return words(`box ${action.box}`, 'make a template', 'making a template', 'starts warm', 'warm');
    case 'image.ensure':
      return words(`image ${shortReference(action.image)}`, 'get', 'getting', 'there', 'ready');
    case 'image.push':
      return words(`image ${shortReference(action.image)}`, 'push', 'pushing', 'pushed', 'pushed');
    case 'image.load':
      return words(action.archive, 'load', 'loading', 'loaded', 'loaded');
    case 'image.save':
      return words(action.archive, 'save', 'saving', 'saved', 'saved');
    case 'store.gc':
      return words('store', 'remove what nobody uses', 'removing what nobody uses', 'tidied', 'tidy');
    case 'store.verify':
      return words('store', 'verify', 'verifying', 'verified', 'verified');
    case 'machine.create':
      return words(action.machine, 'create', 'creating', 'created', 'created');
    case 'machine.start':
      return words(action.machine, 'start', 'starting', 'started', 'started');
    case 'machine.adjust':
      return words(action.machine, 'adjust', 'adjusting', 'adjusted', 'running');
    case 'machine.wait':
      return words(action.machine, 'wait until reachable', 'waiting until reachable', 'reachable', 'ready');
    case 'machine.provision':
      return words(
        action.machine,
        `provision ${action.step}`,
        `provisioning ${action.step}`,
        `provisioned ${action.step}`,
        'provisioned',
      );
    case 'machine.cached':
      return words(
        action.machine,
        action.step,
        `taking ${action.step} from the cache`,
        `${action.step} cached`,
        'provisioned',
      );
    case 'machine.forget':
      return words(
        action.machine,
        'forget what is cached',
        'forgetting what is cached',
        'forgot what was cached',
        'provisioned',
      );
    case 'machine.healthy':
      return words(action.machine, 'check health', 'checking health', 'healthy', 'healthy');
    case 'machine.completed':
      return words(action.machine, 'wait until completed', 'running', 'completed', 'completed');
    case 'machine.stop':
      return words(action.machine, 'stop', 'stopping', 'stopped', 'stopped');
    case 'machine.pause':
      return words(action.machine, 'pause', 'pausing', 'paused', 'paused');
    case 'machine.unpause':
      return words(action.machine, 'unpause', 'unpausing', 'unpaused', 'running');
    case 'machine.suspend':
      return words(action.machine, 'suspend', 'suspending', 'suspended', 'suspended');
    case 'machine.resume':
      return words(action.machine, 'resume', 'resuming', 'resumed', 'running');
    case 'snapshot.save': {
      const names = action.machines.join(', ');
      return words(`snapshot ${action.snapshot}`, `save ${names}`, `saving ${names}`, `has ${names}`, 'saved');
    }
    case 'snapshot.restore': {
      const names = action.machines.join(', ');
      return words(
        `snapshot ${action.snapshot}`,
        `set back ${names}`,
        `setting back ${names}`,
        `${names} set back`,
        'restored',
      );
    }
    case 'snapshot.delete':
      return words(`snapshot ${action.snapshot}`, 'delete', 'deleting', 'deleted', 'deleted');
    case 'machine.rename': {
      const to = `to ${action.to}`;
      return words(action.machine, `rename ${to}`, `renaming ${to}`, `renamed ${to}`, `is ${action.to}`);
    }
    case 'machine.clone': {
      const { from } = action;
      return words(action.machine, `copy ${from}`, `copying ${from}`, `copied from ${from}`, `is a copy of ${from}`);
    }
    case 'machine.destroy':
      return action.keep === undefined
        ? words(action.machine, 'destroy', 'destroying', 'destroyed', 'destroyed')
        : words(
            action.machine,
            `destroy all but its ${action.keep}`,
            `destroying all but its ${action.keep}`,
            `destroyed, ${action.keep} kept`,
            'destroyed',
          );
  }
}

const words = (row: string, todo: string, doing: string, did: string, result: string): Words => ({
  row,
  todo,
  doing,
  did,
  result,
});

/** `lb: step 'x' failed` says its machine itself; beneath the machine's name that is once too often. */
export const withoutName = (message: string, name: string): string =>
  message.startsWith(`${name}: `) ? message.slice(name.length + 2) : message;
