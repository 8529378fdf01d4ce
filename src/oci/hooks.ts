import { spawnSync } from 'node:child_process';
import { closeSync, readFileSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import type { ProcessRef } from '../model/state.ts';
import { type ExitStatus, signalProcess, waitExit } from '../sys/children.ts';
import { CLONE, SIGCHLD } from '../sys/flags.ts';
import { fork, memoryFile, stdio } from '../sys/fork.ts';
import { syscall } from '../sys/libc.ts';
import { processRef } from '../sys/process.ts';
import { execInContainer } from './exec.ts';
import { foreignNamespaces } from './namespaces.ts';
import { becomeUser } from './privileges.ts';
import type { OciConfig, OciHook, OciHookKind, OciState } from './spec.ts';

const SIGKILL = 9;

/** Where the hooks run that are for the container's namespaces. */
interface Inside {
  /** PID 1. */
  readonly pid: number;
  /** Path of its root at that moment. */
  readonly rootfs: string;
  readonly cgroups: readonly string[];
}

interface HookOptions {
  /** For the kinds that run in the container's namespaces. */
  readonly inside?: Inside;
  /** Told of each hook that fails, and the others run; without it the first failure is thrown. */
  readonly onFailure?: (failure: TsvError) => void;
}

/**
 * Runs the hooks of one kind, one after the other, with the container's state on their standard input.
 * Where each kind runs is in config.md, "POSIX-platform Hooks"; what a failure means in runtime.md, "Lifecycle".
 * @throws TSV_HOOK for the first that fails, without `onFailure`
 */
export async function runHooks(
  kind: OciHookKind,
  config: OciConfig,
  state: OciState,
  { inside, onFailure }: HookOptions = {},
): Promise<void> {
  const input = JSON.stringify(state);
  for (const [index, hook] of (config.hooks?.[kind] ?? []).entries()) {
    const where = `hooks.${kind}[${index}]`;
    try {
      if (inside !== undefined && kind === 'createContainer') await runBesideRoot(hook, where, input, inside);
      else if (inside !== undefined && kind === 'startContainer')
        await runAsProcess(hook, where, input, inside, config);
      else await runHere(hook, where, input);
    } catch (error) {
      if (onFailure === undefined || !(error instanceof TsvError)) throw error;
      onFailure(error);
    }
  }
}

const runHere = (hook: OciHook, where: string, input: string): Promise<void> =>
  withFiles(input, (stdin, output) => {
    const [argv0 = hook.path, ...args] = hook.args ?? [];
    const { error, status, signal } = spawnSync(hook.path, args, {
      argv0,
      env: Object.fromEntries(environment(hook).map(splitEntry)),
      stdio: [stdin, output, output],
      ...(hook.timeout === undefined ? {} : { timeout: hook.timeout * 1000, killSignal: 'SIGKILL' }),
    });
    if (error !== undefined) throw failed(hook, where, reason(hook, error), readOutput(output));
    if (status !== 0) throw failed(hook, where, ending({ code: status, signal }), readOutput(output));
  });

/**
 * What a hook reads and what it writes are files: one that does not read its input has done nothing wrong, and one that
 * leaves a process behind is over all the same.
 */
async function withFiles(input: string, use: (stdin: number, output: number) => Promise<void> | void): Promise<void> {
  const stdin = memoryFile('hook-input', Buffer.from(input));
  const output = memoryFile('hook-output', Buffer.alloc(0), { writable: true });
  try {
    await use(stdin, output);
  } finally {
    closeSync(stdin);
    closeSync(output);
  }
}

/** As runc and crun have it, a hook that names no environment at all has that of whoever runs it. */
const environment = (hook: OciHook): readonly string[] =>
  hook.env ?? Object.entries(process.env).map(([name, value = '']) => `${name}=${value}`);

const splitEntry = (entry: string): [name: string, value: string] => {
  const at = entry.indexOf('=');
  return at < 0 ? [entry, ''] : [entry.slice(0, at), entry.slice(at + 1)];
};

const reason = (hook: OciHook, error: Error): string => {
  const code = (error as NodeJS.ErrnoException).code ?? error.message;
  return code === 'ETIMEDOUT' ? `not over after its timeout of ${hook.timeout} s` : code;
};

const ending = ({ code, signal }: { code?: number | null; signal?: string | number | null }): string =>
  signal === null || signal === undefined ? `exit code ${code}` : `killed by signal ${signal}`;

/** In the namespaces of the container, before its root is entered: the path is the host's, the folder is the root. */
const runBesideRoot = (hook: OciHook, where: string, input: string, { pid, rootfs }: Inside): Promise<void> =>
  attended(hook, where, input, async (stdin, output) => {
    const target = syscall('pidfd_open', where, pid, 0);
    try {
      const namespaces = foreignNamespaces(pid);
      const child = fork(
        {
          fds: { target, stdin, stdout: output, stderr: output },
          steps: [
            ...(namespaces === 0 ? [] : [{ call: 'setns', args: [{ fd: 'target' }, namespaces] } as const]),
            { fork: CLONE.PARENT | SIGCHLD, as: 'pid', parent: [{ report: 'forked', value: 'pid' }] },
            { call: 'setsid', args: [] },
            ...((namespaces & CLONE.NEWUSER) === 0 ? [] : becomeUser({ uid: 0, gid: 0, groups: [] }, 'may')),
            { call: 'chdir', args: [rootfs] },
            ...stdio(),
            {
              call: 'execve',
              args: [hook.path, { strings: [...(hook.args ?? [hook.path])] }, { strings: [...environment(hook)] }],
            },
          ],
        },
        (_, errno) => failed(hook, where, errno, ''),
      );
      const entererGone = waitExit(child.pid);
      try {
        const hookPid = await child.reported('forked');
        const exited = waitExit(hookPid);
        const process = processRef(hookPid);
        await child.executed;
        return { process, exited };
      } finally {
        child.abandon();
        await entererGone;
      }
    } finally {
      closeSync(target);
    }
  });

/** As the container's process would run: its user, its rights, its filter, and where it names none its environment. */
const runAsProcess = (
  hook: OciHook,
  where: string,
  input: string,
  { pid, cgroups }: Inside,
  config: OciConfig,
): Promise<void> =>
  attended(hook, where, input, (stdin, output) =>
    execInContainer({
      name: where,
      initPid: pid,
      file: hook.path,
      process: {
        ...(config.process ?? { cwd: '/' }),
        terminal: false,
        args: hook.args ?? [hook.path],
        env: hook.env ?? config.process?.env ?? [],
      },
      ...(config.linux?.seccomp === undefined ? {} : { seccomp: config.linux.seccomp }),
      stdio: { stdin, stdout: output, stderr: output },
      cgroupFolders: cgroups,
    }),
  );

/** Starts a hook with the state as its input, and sees to its timeout and its end. */
const attended = (
  hook: OciHook,
  where: string,
  input: string,
  begin: (
    stdin: number,
    output: number,
  ) => Promise<{ process: ProcessRef | undefined; exited: Promise<ExitStatus | undefined> }>,
): Promise<void> =>
  withFiles(input, async (stdin, output) => {
    let late = false;
    try {
      const { process, exited } = await begin(stdin, output);
      const timer = setTimeout(
        () => {
          late = true;
          signalProcess(process, SIGKILL);
        },
        Math.min((hook.timeout ?? 2 ** 21) * 1000, 2 ** 31 - 1),
      );
      const status = await exited.finally(() => clearTimeout(timer));
      if (late) throw failed(hook, where, `not over after its timeout of ${hook.timeout} s`, readOutput(output));
      if (status?.code !== 0) throw failed(hook, where, ending(status ?? {}), readOutput(output));
    } catch (error) {
      if (error instanceof TsvError && error.code === 'TSV_HOOK') throw error;
      throw failed(hook, where, error instanceof Error ? error.message : String(error), '');
    }
  });

const readOutput = (fd: number): string => readFileSync(`/proc/self/fd/${fd}`, 'utf8');

function failed(hook: OciHook, where: string, why: string, said: string): TsvError {
  const lines = said.trim().split('\n').filter(Boolean).slice(-10);
  return new TsvError('TSV_HOOK', `${where}: error running hook ${hook.path}: ${why}`, { details: lines });
}
