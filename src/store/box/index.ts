export { removeTree } from '../remove-tree.ts';
export { type EnsureOptions, ensureBox } from './ensure.ts';
export { type BoxListing, listBoxes } from './list.ts';
export type { BoxKind } from './recipe.ts';
