import { resolve } from 'node:path';
import {
  defaultRoot,
  hostProcesses,
  listContainers,
  listeningDescriptors,
  processFor,
  requirePreserved,
  resourcesFrom,
  writeSpec,
} from '../../app/oci.ts';
import { statsJson } from '../../cgroup/stats.ts';
import { TsvError } from '../../model/errors.ts';
import {
  create,
  exec,
  kill,
  pause,
  processes,
  type Runtime,
  remove,
  resume,
  run,
  type StartRequest,
  start,
  state,
  statistics,
  update,
  watchEvents,
} from '../../oci/runtime/index.ts';
import type { Call } from './command-line.ts';
import type { CommandName, GlobalOptions, OptionsOf } from './commands.ts';
import { execProcess } from './exec-process.ts';
import { listIds, listJson, listTable, psTable, readFormat, stateJson } from './output.ts';
import { readResources } from './resources.ts';
import { readSignal } from './signal.ts';

export interface Context {
  /** What relative paths begin at. */
  readonly cwd: string;
  readonly version: string;
  readonly warn: (message: string) => void;
  readonly print: (text: string) => void;
}

interface Task<C extends CommandName> extends Context {
  readonly runtime: Runtime;
  readonly options: OptionsOf<C>;
  readonly id: string;
  /** Behind the id. */
  readonly args: readonly string[];
}

type Handlers = { readonly [C in CommandName]: (task: Task<C>) => Promise<number> | number | Promise<void> | void };

/** Does what a command line says. @returns the exit code */
export async function runCall(call: Call, global: GlobalOptions, context: Context): Promise<number> {
  const runtime: Runtime = {
    root: resolve(context.cwd, global.root || defaultRoot()),
    systemdCgroup: global['systemd-cgroup'] === true,
    warn: context.warn,
  };
  const [id = '', ...args] = call.args;
  const handler = handlers[call.command] as (task: Task<CommandName>) => ReturnType<Handlers[CommandName]>;
  return (await handler({ ...context, runtime, options: call.options, id, args })) ?? 0;
}

const handlers: Handlers = {
  create: ({ runtime, ...task }) => create(runtime, startRequest(task)),
  start: ({ runtime, id }) => start(runtime, id),
  run: ({ runtime, ...task }) =>
    run(runtime, {
      ...startRequest(task),
      detach: task.options.detach === true,
      keep: task.options.keep === true,
    }),
  state: ({ runtime, id, print }) => print(stateJson(state(runtime, id))),
  kill: ({ runtime, id, args, options }) =>
    kill(runtime, id, readSignal(args[0] ?? 'TERM'), { all: options.all === true }),
  delete: ({ runtime, id, options }) => remove(runtime, id, { force: options.force === true }),
  exec: execute,
  list: ({ runtime, options, print }) => {
    const format = readFormat(options.format);
    const rows = listContainers(runtime);
    if (options.quiet === true) print(listIds(rows));
    else print(format === 'json' ? listJson(rows) : listTable(rows));
  },
  ps: ({ runtime, id, args, options, print }) => {
    const format = readFormat(options.format);
    const pids = processes(runtime, id);
    print(format === 'json' ? `${JSON.stringify(pids)}\n` : psTable(hostProcesses(args), pids));
  },
  pause: ({ runtime, id }) => pause(runtime, id),
  resume: ({ runtime, id }) => resume(runtime, id),
  update: ({ runtime, id, cwd, options }) => {
    const { resources: file = '' } = options;
    update(runtime, id, file === '' ? readResources(options) : resourcesFrom(file, cwd));
  },
  events: async ({ runtime, id, options, print }) => {
    const { interval = 5000 } = options;
    if (interval <= 0) throw new TsvError('TSV_USAGE', 'duration interval must be greater than 0');
    const emit = (type: 'stats' | 'oom', data?: unknown) => print(`${statsJson({ type, id, data })}\n`);
    if (options.stats === true) return emit('stats', statistics(runtime, id));
    await watchEvents(runtime, id, interval, { stats: (data) => emit('stats', data), oom: () => emit('oom') });
  },
  spec: ({ cwd, options }) => writeSpec(resolve(cwd, options.bundle ?? '.'), { rootless: options.rootless === true }),
  features: async ({ version, print }) => print((await import('./features.ts')).featuresJson(version)),
};

function startRequest({ id, cwd, options }: Omit<Task<'create'>, 'runtime'>): StartRequest {
  const listenFds = listeningDescriptors();
  return {
    id,
    bundle: resolve(cwd, options.bundle ?? '.'),
    ...pathOf(cwd, 'pidFile', options['pid-file']),
    ...pathOf(cwd, 'consoleSocket', options['console-socket']),
    preserveFds: preservedOf(options, listenFds),
    listenFds,
    noPivot: options['no-pivot'] === true,
  };
}

function preservedOf(options: Pick<OptionsOf<'create'>, 'preserve-fds'>, listening = 0): number {
  const count = Math.max(0, options['preserve-fds'] ?? 0);
  requirePreserved(count, listening);
  return count;
}

/** An empty path is none. */
function pathOf<K extends string>(cwd: string, key: K, path: string | undefined): { readonly [key in K]?: string } {
  return path === undefined || path === '' ? {} : ({ [key]: resolve(cwd, path) } as { readonly [key in K]: string });
}

async function execute({ runtime, id, args, options, cwd }: Task<'exec'>): Promise<number> {
  try {
    const { process: file = '' } = options;
    return await exec(runtime, id, {
      process: processFor(runtime, id, file === '' ? (own) => execProcess(own, args, options) : resolve(cwd, file)),
      ...pathOf(cwd, 'pidFile', options['pid-file']),
      ...pathOf(cwd, 'consoleSocket', options['console-socket']),
      detach: options.detach === true,
      preserveFds: preservedOf(options),
      ignorePaused: options['ignore-paused'] === true,
      cgroups: options.cgroup ?? [],
    });
  } catch (error) {
    throw asExecFailure(error);
  }
}

/** So that it is not taken for the exit code of the command: 255, as runc has it, but 127 and 126 for no such command. */
export function asExecFailure(error: unknown): unknown {
  if (!(error instanceof TsvError) || error.code === 'TSV_COMMAND_NOT_FOUND') return error;
  const { code, message, hint, details, cause } = error;
  return new TsvError(code, message, { ...(hint === undefined ? {} : { hint }), details, cause, exitCode: 255 });
}
