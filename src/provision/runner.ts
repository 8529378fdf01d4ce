import { TsvError } from '../model/errors.ts';
import type { Emit } from '../model/events.ts';
import type { ProvisionStep } from '../model/project.ts';
import type { Transport } from '../model/provider.ts';
import { runFileStep } from './file.ts';
import { runShellStep } from './shell.ts';

export interface StepContext {
  readonly transport: Transport;
  /** Name of the machine, for messages and events. */
  readonly machine: string;
  /** The box's ordinary user, for steps that are not privileged. */
  readonly user: string;
  /** Gets an `output` event per line. */
  readonly emit: Emit;
  readonly signal: AbortSignal;
}

/**
 * Runs one provisioning step to its end. Returns when it is done; never says so of a step whose end was not seen.
 * @throws TSV_PROVISION when it fails or the machine is lost on the way, TSV_CANCELLED when `signal` fires: then the
 * step's processes were told to end (TERM, then KILL).
 */
export async function runStep(context: StepContext & { readonly step: ProvisionStep }): Promise<void> {
  const { step, machine, signal } = context;
  if (signal.aborted) throw cancelled(machine, step.name);
  try {
    if (step.type === 'shell') await runShellStep(step, context);
    else await runFileStep(step, context);
  } catch (error) {
    if (signal.aborted) throw cancelled(machine, step.name);
    if (error instanceof TsvError && (error.code === 'TSV_PROVISION' || error.code === 'TSV_CANCELLED')) throw error;
    const details = error instanceof TsvError ? [error.message, ...error.details] : [messageOf(error)];
    throw new TsvError('TSV_PROVISION', `${machine}: step '${step.name}' failed`, { details, cause: error });
  }
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));

const cancelled = (machine: string, step: string): TsvError =>
  new TsvError('TSV_CANCELLED', `${machine}: step '${step}' was interrupted`, { exitCode: 130 });
