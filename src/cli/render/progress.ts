import type { Writable } from 'node:stream';
import type { TsvEvent } from '../../model/events.ts';
import { jsonProgress } from './json.ts';
import { plainProgress, quietProgress } from './plain.ts';
import type { OutputSize, Terminal } from './terminal.ts';
import { treeProgress } from './tree.ts';

export type ProgressMode = 'tree' | 'plain' | 'json' | 'quiet';

export interface ProgressOptions {
  /** `tree` on an output whose cursor cannot be moved becomes `plain`. */
  readonly mode: ProgressMode;
  readonly stream: Writable & OutputSize;
  readonly terminal: Terminal;
  /** Milliseconds since the epoch. */
  readonly now?: () => number;
}

export interface Progress {
  /** Shows one event. Never throws and never waits: what a slow reader cannot take is dropped and counted. */
  emit(event: TsvEvent): void;
  /**
   * To be called once, when the command is over: draws the last picture and resolves when the reader has it.
   * Only JSON output holds the error; otherwise the caller prints it with `renderError`, after this.
   */
  done(error?: unknown): Promise<void>;
}

/** How the events of a command are best shown on this output. */
export function progressMode(
  terminal: Terminal,
  options: { readonly json?: boolean; readonly quiet?: boolean; readonly ci?: boolean } = {},
): ProgressMode {
  if (options.json === true) return 'json';
  if (options.quiet === true) return 'quiet';
  return terminal.cursor && options.ci !== true ? 'tree' : 'plain';
}

/** Prints the events of one command, which may hold several plans one after another. */
export function createProgress(options: ProgressOptions): Progress {
  switch (options.mode) {
    case 'tree':
      return options.terminal.cursor ? treeProgress(options) : plainProgress(options);
    case 'plain':
      return plainProgress(options);
    case 'json':
      return jsonProgress(options);
    case 'quiet':
      return quietProgress(options);
  }
}
