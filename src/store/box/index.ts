export { type EnsureOptions, ensureBox } from './ensure.ts';
export { type BoxListing, listBoxes } from './list.ts';
export { type BoxKind, boxName } from './recipe.ts';
export { removeTree } from './remove-tree.ts';
