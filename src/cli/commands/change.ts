import { createInterface } from 'node:readline/promises';
import {
  bringUp,
  pauseMachines,
  provision,
  restart as restartMachines,
  suspendMachines,
  takeDown,
} from '../../app/run.ts';
import { listSnapshots } from '../../app/snapshot.ts';
import { projectStatus } from '../../app/status.ts';
import { listVolumes } from '../../app/volumes.ts';
import { TsvError } from '../../model/errors.ts';
import type { Handler, Session } from '../program.ts';
import { withProgress } from '../progress.ts';

interface ChangeOptions {
  readonly parallel: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
  readonly timings?: boolean;
}

interface BringOptions extends ChangeOptions {
  /** false: `--no-cache`. */
  readonly cache?: boolean;
  readonly provision?: boolean;
  readonly locked?: boolean;
  readonly wait?: boolean;
  /** Milliseconds. */
  readonly timeout?: number;
}

const common = (session: Session, targets: readonly string[], options: ChangeOptions) => ({
  place: session.place,
  targets,
  commandLine: session.commandLine,
  parallel: options.parallel,
  ...(options.timings === undefined ? {} : { timings: options.timings }),
});

const bring =
  (command: 'up' | 'reload'): Handler<BringOptions> =>
  async (session, targets, options) => {
    const mode = options.provision === true ? 'force' : (options.provision ?? true);
    const { plan } = await withProgress(session, options, (emit, signal) =>
      bringUp({
        ...common(session, targets, options),
        command,
        provision: mode,
        locked: options.locked === true,
        wait: options.wait ?? true,
        ...(options.timeout === undefined ? {} : { timeoutMs: options.timeout }),
        noCache: options.cache === false,
        emit,
        signal,
      }),
    );
    if (options.json !== true && options.quiet !== true) {
      session.stderr.write(plan.nodes.length === 0 ? 'Everything is as the Tsfile says.\n' : await whatNext(session));
    }
    return 0;
  };

export const up = bring('up');
export const reload = bring('reload');

export const provisionMachines: Handler<ChangeOptions & { only?: string; cache?: boolean }> = async (
  session,
  targets,
  options,
) => {
  await withProgress(session, options, (emit, signal) =>
    provision({
      ...common(session, targets, options),
      emit,
      signal,
      ...(options.only === undefined ? {} : { only: options.only }),
      noCache: options.cache === false,
    }),
  );
  return 0;
};

export const halt: Handler<ChangeOptions & { force?: boolean }> = async (session, targets, options) => {
  await withProgress(session, options, (emit, signal) =>
    takeDown({ ...common(session, targets, options), command: 'halt', force: options.force === true, emit, signal }),
  );
  return 0;
};

export const restart: Handler<ChangeOptions & { timeout?: number }> = async (session, targets, options) => {
  await withProgress(session, options, (emit, signal) =>
    restartMachines({
      ...common(session, targets, options),
      ...(options.timeout === undefined ? {} : { stopTimeoutMs: options.timeout * 1000 }),
      emit,
      signal,
    }),
  );
  return 0;
};

const pausing =
  (command: 'pause' | 'unpause'): Handler<ChangeOptions> =>
  async (session, targets, options) => {
    await withProgress(session, options, (emit, signal) =>
      pauseMachines({ ...common(session, targets, options), command, emit, signal }),
    );
    return 0;
  };

export const pause = pausing('pause');
export const unpause = pausing('unpause');

export const suspend: Handler<ChangeOptions> = async (session, targets, options) => {
  const { plan } = await withProgress(session, options, (emit, signal) =>
    suspendMachines({ ...common(session, targets, options), command: 'suspend', emit, signal }),
  );
  if (options.json !== true && options.quiet !== true)
    session.stderr.write(plan.nodes.length === 0 ? 'Nothing runs.\n' : 'Go on with: tsv resume\n');
  return 0;
};

export const resume: Handler<ChangeOptions> = async (session, targets, options) => {
  const { plan } = await withProgress(session, options, (emit, signal) =>
    suspendMachines({ ...common(session, targets, options), command: 'resume', emit, signal }),
  );
  if (plan.nodes.length === 0 && options.json !== true && options.quiet !== true)
    session.stderr.write('Nothing is suspended.\n');
  return 0;
};

export const destroy: Handler<ChangeOptions & { force?: boolean }> = async (session, targets, options) => {
  if (options.force !== true && !(await confirmed(session, targets))) {
    session.stderr.write('Nothing was removed.\n');
    return 1;
  }
  await withProgress(session, options, (emit, signal) =>
    takeDown({ ...common(session, targets, options), command: 'destroy', force: true, emit, signal }),
  );
  return 0;
};

async function confirmed(session: Session, targets: readonly string[]): Promise<boolean> {
  const { machines } = await projectStatus(session.place);
  const names =
    targets.length > 0
      ? targets
      : machines.filter(({ state }) => state !== 'not created').map(({ machine }) => machine);
  // Those that are named are all that goes.
  const volumes =
    targets.length > 0
      ? []
      : listVolumes(session.place).flatMap(({ volume, until }) => (until === 'project' ? [volume] : []));
  const snapshots = listSnapshots({ place: session.place, targets: [] })
    .filter((snapshot) => snapshot.machines.some(({ machine }) => names.includes(machine)))
    .map(({ snapshot }) => snapshot);
  if (names.length + volumes.length === 0) return true;
  if (!session.stdin.isTTY) {
    throw new TsvError('TSV_USAGE', 'destroy asks before it removes, and there is no terminal to ask on', {
      hint: 'tsv destroy --force',
    });
  }
  const ask = createInterface({ input: session.stdin, output: session.stderr });
  try {
    const answer = await ask.question(`Remove ${whatGoes(names, volumes, snapshots)}? [y/N] `);
    return /^y(es)?$/i.test(answer.trim());
  } finally {
    ask.close();
  }
}

function whatGoes(machines: readonly string[], volumes: readonly string[], snapshots: readonly string[]): string {
  const all = (word: string, names: readonly string[]): string[] =>
    names.length === 0 ? [] : [`the ${names.length === 1 ? word : `${word}s`} ${names.join(', ')}`];
  const listed = [...all('volume', volumes), ...all('snapshot', snapshots)];
  return [...(machines.length === 0 ? [] : [`${machines.join(', ')} with everything in them`]), ...listed].join(
    ', and ',
  );
}

/** After a successful `up`: where things are reached. */
async function whatNext(session: Session): Promise<string> {
  const { machines } = await projectStatus(session.place);
  const running = machines.filter(({ state }) => state === 'running');
  const first = running[0];
  if (first === undefined) return '';
  const forwards = running.flatMap(({ machine, forwards: list }) =>
    list.map((forward) => `  ${forward.replace('->', `  ->  ${machine}:`)}\n`),
  );
  return `\n${forwards.length === 0 ? '' : `Forwarded ports:\n${forwards.join('')}`}Go in with: tsv ssh ${first.machine}\n`;
}
