import { spawnSync } from 'node:child_process';
import { closeSync, readFileSync } from 'node:fs';
import { TsvError } from '../model/errors.ts';
import { type ExitStatus, keepAlive, signalProcess, waitExit } from '../sys/children.ts';
import { CLONE, SIGCHLD } from '../sys/flags.ts';
import { fork, memoryFile, stdio } from '../sys/fork.ts';
import { syscall } from '../sys/libc.ts';
import { processRef } from '../sys/process.ts';
import { foreignNamespaces } from './namespaces.ts';
import { becomeUser } from './privileges.ts';
import type { OciConfig, OciHook, OciHookKind, OciState } from './spec.ts';

const SIGKILL = 9;

/** Where each kind runs: config.md, "POSIX-platform Hooks". */
const inContainer: ReadonlySet<OciHookKind> = new Set(['createContainer', 'startContainer']);

/**
 * Runs the hooks of one kind, one after the other, with the container's state on their standard input.
 * @param pid PID 1 of the container, for the kinds that run in its namespaces
 * @throws TSV_HOOK for the first that fails
 */
export async function runHooks(kind: OciHookKind, config: OciConfig, state: OciState, pid?: number): Promise<void> {
  const input = JSON.stringify(state);
  for (const [index, hook] of (config.hooks?.[kind] ?? []).entries()) {
    const where = `hooks.${kind}[${index}]`;
    if (inContainer.has(kind) && pid !== undefined) await runInside(hook, where, input, pid);
    else runHere(hook, where, input);
  }
}

function runHere(hook: OciHook, where: string, input: string): void {
  const [argv0 = hook.path, ...args] = hook.args ?? [];
  const result = spawnSync(hook.path, args, {
    argv0,
    env: environment(hook),
    input,
    ...(hook.timeout === undefined ? {} : { timeout: hook.timeout * 1000, killSignal: 'SIGKILL' }),
  });
  const said = `${result.stdout ?? ''}${result.stderr ?? ''}`;
  if (result.error !== undefined) throw failed(hook, where, reason(hook, result.error), said);
  if (result.status !== 0) throw failed(hook, where, ending({ code: result.status, signal: result.signal }), said);
}

const environment = (hook: OciHook): Record<string, string> =>
  Object.fromEntries(
    (hook.env ?? []).map((entry) => {
      const at = entry.indexOf('=');
      return [entry.slice(0, at), entry.slice(at + 1)];
    }),
  );

const reason = (hook: OciHook, error: Error): string => {
  const code = (error as NodeJS.ErrnoException).code ?? error.message;
  return code === 'ETIMEDOUT' ? `not over after its timeout of ${hook.timeout} s` : code;
};

const ending = ({ code, signal }: { code?: number | null; signal?: string | number | null }): string =>
  signal === null || signal === undefined ? `exit code ${code}` : `killed by signal ${signal}`;

/** In the namespaces of the container; the path is what it is there at that moment. */
async function runInside(hook: OciHook, where: string, input: string, pid: number): Promise<void> {
  const stdin = memoryFile('hook-input', Buffer.from(input));
  const target = syscall('pidfd_open', where, pid, 0);
  const output = memoryFile('hook-output', Buffer.alloc(0), { writable: true });
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
          ...stdio(),
          {
            call: 'execve',
            args: [hook.path, { strings: [...(hook.args ?? [hook.path])] }, { strings: [...(hook.env ?? [])] }],
          },
        ],
      },
      (_, errno) => failed(hook, where, errno, ''),
    );
    const entererGone = waitExit(child.pid);
    let status: ExitStatus | undefined;
    let late = false;
    try {
      const hookPid = await child.reported('forked');
      const exited = waitExit(hookPid);
      const ref = processRef(hookPid);
      const timer =
        hook.timeout === undefined
          ? undefined
          : setTimeout(() => {
              late = true;
              signalProcess(ref, SIGKILL);
            }, hook.timeout * 1000);
      try {
        await child.executed;
        status = await keepAlive(exited);
      } finally {
        clearTimeout(timer);
      }
    } finally {
      child.abandon();
      await entererGone;
    }
    if (late) throw failed(hook, where, `not over after its timeout of ${hook.timeout} s`, readOutput(output));
    if (status?.code !== 0) throw failed(hook, where, ending(status ?? {}), readOutput(output));
  } finally {
    for (const fd of [stdin, target, output]) closeSync(fd);
  }
}

const readOutput = (fd: number): string => readFileSync(`/proc/self/fd/${fd}`, 'utf8');

function failed(hook: OciHook, where: string, why: string, said: string): TsvError {
  const lines = said.trim().split('\n').filter(Boolean).slice(-10);
  return new TsvError('TSV_HOOK', `${where}: ${hook.path}: ${why}`, { details: lines });
}
