import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { TsvError } from '../model/errors.ts';
import type { ShellStep } from '../model/project.ts';
import { runProgram } from './program.ts';
import type { StepContext } from './runner.ts';

/** As many of the last lines as an error shows. */
const lastLines = 20;
/** A machine that does not answer any more must not hold up the message that says so. */
const removalMs = 5_000;

/**
 * Runs a script in the machine: as root or as the box's user, from the asked folder or the user's home. The script
 * lies in a file that only its user can read, and that is removed afterwards whatever happens. Values of `env` go to
 * the transport, which keeps them off every command line.
 */
export async function runShellStep(step: ShellStep, context: StepContext): Promise<void> {
  const { transport, machine, emit, signal } = context;
  const script = await readScript(step, machine);
  const user = step.privileged ? 'root' : context.user;
  const file = `/tmp/tsv-provision-${randomBytes(16).toString('hex')}`;
  const last: string[] = [];
  const onLine = (stream: 'stdout' | 'stderr', text: string) => {
    emit({ type: 'output', machine, step: step.name, stream, text });
    last.push(text);
    if (last.length > lastLines) last.shift();
  };

  await transport.put(script, file, { mode: 0o700, ...(user === 'root' ? {} : { owner: user }) });
  try {
    const ended = await runProgram(
      transport,
      {
        argv: [...interpreter(script), file, ...step.args],
        env: step.env,
        user,
        ...(step.cwd === undefined ? {} : { cwd: step.cwd }),
      },
      onLine,
      signal,
    );
    if (ended.how === 'exited' && ended.result.code === 0 && ended.result.signal === undefined) return;
    throw failure(step, machine, script, ended, last);
  } catch (error) {
    if (error instanceof TsvError && error.code === 'TSV_COMMAND_NOT_FOUND') {
      throw new TsvError(
        'TSV_PROVISION',
        `${machine}: step '${step.name}' needs ${interpreter(script)[0]}, which is not in the machine`,
        {
          details: [`script: ${nameOf(step)}`, error.message],
          ...crlfHint(script, step),
          cause: error,
        },
      );
    }
    throw error;
  } finally {
    await remove(context, file);
  }
}

async function readScript(step: ShellStep, machine: string): Promise<Buffer> {
  if ('inline' in step.script) return Buffer.from(step.script.inline);
  try {
    return await readFile(step.script.path);
  } catch (error) {
    throw new TsvError('TSV_PROVISION', `${machine}: the script of step '${step.name}' cannot be read`, {
      details: [(error as Error).message],
      cause: error,
    });
  }
}

const nameOf = (step: ShellStep): string => ('path' in step.script ? step.script.path : 'inline in the Tsfile');

/**
 * What the kernel would make of the first line (execve(2), Interpreter scripts): a program and at most one argument.
 * Done here, because the folder for temporary files may be mounted noexec.
 */
export function interpreter(script: Buffer): string[] {
  const line = script.subarray(0, 4096).toString().split('\n', 1)[0] ?? '';
  const match = /^#![ \t]*([^ \t\r]+)(?:[ \t]+([^\r]*?))?[ \t\r]*$/.exec(line);
  if (match?.[1] === undefined) return ['/bin/sh'];
  return match[2] === undefined || match[2] === '' ? [match[1]] : [match[1], match[2]];
}

type Failed = Awaited<ReturnType<typeof runProgram>>;

function failure(step: ShellStep, machine: string, script: Buffer, ended: Failed, last: readonly string[]): TsvError {
  const what = `${machine}: step '${step.name}'`;
  const output =
    last.length === 0
      ? ['it printed nothing']
      : [`last output (${last.length} lines):`, ...last.map((line) => `  ${line}`)];
  const details = [`script: ${nameOf(step)}`, ...output];
  switch (ended.how) {
    case 'cancelled':
      return new TsvError('TSV_CANCELLED', `${what} was interrupted`, { exitCode: 130 });
    case 'lost':
      return new TsvError('TSV_PROVISION', `${what} did not finish: the connection to the machine was lost`, {
        details,
        hint: `if the script reboots the machine, move what follows into a step of its own; else look at: tsv logs ${machine}`,
        cause: ended.cause,
      });
    case 'exited': {
      const { code, signal } = ended.result;
      if (signal === undefined) {
        return new TsvError('TSV_PROVISION', `${what} failed with exit code ${code}`, {
          details,
          ...crlfHint(script, step),
        });
      }
      return new TsvError('TSV_PROVISION', `${what} was killed by signal ${signal}`, {
        details,
        ...(signal === 'KILL' ? { hint: `out of memory? give ${machine} more in the Tsfile: memory` } : {}),
      });
    }
  }
}

/** A carriage return before the line feed is part of the last word of each line, for every shell. */
function crlfHint(script: Buffer, step: ShellStep): { hint?: string } {
  if (!script.includes('\r\n')) return {};
  const mend = 'path' in step.script ? `: sed -i 's/\\r$//' ${step.script.path}` : '';
  return { hint: `the script has Windows line ends (CRLF), which shells do not take${mend}` };
}

/** The step's own outcome counts, not this: /tmp of a machine that is gone is emptied at its next boot. */
async function remove({ transport }: StepContext, file: string): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const patience = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, removalMs);
  });
  const request = { argv: ['rm', '-f', file], cwd: '/' };
  const removal = runProgram(transport, request, () => {}, new AbortController().signal);
  await Promise.race([removal.catch(() => {}), patience]);
  clearTimeout(timer);
}
