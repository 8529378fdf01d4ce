import type { MachineKind } from '../model/project.ts';
import type { Report } from './diagnostic.ts';
import { booleanOf, entryOf, fieldOf } from './read.ts';
import type { Node } from './tree.ts';

/** Kinds of machines whose provisioning can be kept. In `defaults` the key is for those. */
const cachedKinds: readonly MachineKind[] = ['container'];

/** Whether what the machine's steps make is kept in the store. Its own word counts before that of `defaults`. */
export function readCache(
  node: Node,
  defaults: Node | undefined,
  kind: MachineKind | undefined,
  report: Report,
): boolean {
  const own = entryOf(node, 'cache');
  const wanted = booleanOf(own?.value ?? fieldOf(defaults, 'cache')) ?? false;
  if (!wanted || kind === undefined || cachedKinds.includes(kind)) return wanted;
  if (own !== undefined)
    report(own.keySpan, 'provisioning of a VM cannot be cached yet; `cache` works for containers', 'remove it');
  return false;
}
