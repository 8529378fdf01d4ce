export type { Diagnostic } from './diagnostic.ts';
export { findTsfile } from './find.ts';
export { boxMeantBy } from './images.ts';
export { listTemplates, type Template, writeTemplate } from './init.ts';
export { type LoadOptions, loadProject } from './load.ts';
export { projectDigest } from './variables.ts';
