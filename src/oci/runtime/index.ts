export { kill, pause, resume, statistics, update } from './control.ts';
export { create, type StartRequest } from './create.ts';
export { remove } from './delete.ts';
export { type EventListeners, watchEvents } from './events.ts';
export { type ExecRequest, exec } from './exec.ts';
export { configOf, type ListedContainer, list, processes, type ShownState, state } from './look.ts';
export type { Runtime } from './runtime.ts';
export { run, start } from './start.ts';
