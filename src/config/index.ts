export type { Diagnostic } from './diagnostic.ts';
export { findTsfile } from './find.ts';
export { boxMeantBy } from './images.ts';
export { listTemplates, type Template, writeTemplate } from './init.ts';
export { type LoadOptions, loadOneOff, loadProject } from './load.ts';
export { defaultNetwork } from './networks.ts';
export { didYouMean } from './suggest.ts';
export { projectDigest } from './variables.ts';
