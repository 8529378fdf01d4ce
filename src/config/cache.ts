import { booleanOf, fieldOf } from './read.ts';
import type { Node } from './tree.ts';

/** Whether what the machine's steps make is kept in the store. Its own word counts before that of `defaults`. */
export const readCache = (node: Node, defaults: Node | undefined): boolean =>
  booleanOf(fieldOf(node, 'cache') ?? fieldOf(defaults, 'cache')) ?? false;
