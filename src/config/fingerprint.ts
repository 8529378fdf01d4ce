import { createHash } from 'node:crypto';
import type { FileStep, ProvisionStep, ShellStep } from '../model/project.ts';
import { contentDigest } from './content.ts';

type Unnamed<Step> = Omit<Step, 'name' | 'run' | 'uncached' | 'fingerprint'>;
/** A step without what the Tsfile calls it. */
export type StepWork = Unnamed<ShellStep> | Unnamed<FileStep>;

/** sha256 of all that a step does. Pure. `digest`: of the script or file that it takes from the host. */
export function fingerprintOf(step: StepWork, digest: string): string {
  if (step.type === 'file') {
    const { destination, mode, owner } = step;
    return sha256(['file', digest, { destination, mode, owner }]);
  }
  const { script, args, env, privileged, cwd } = step;
  const settings = { args, env, privileged, cwd };
  return 'inline' in script ? sha256(['inline', script.inline, settings]) : sha256(['shell', digest, settings]);
}

/** Whether the script or file of a step still is what it was when the Tsfile was read. */
export function isUnchanged(step: ProvisionStep): boolean {
  if (step.type === 'shell' && 'inline' in step.script) return true;
  const content =
    step.type === 'file'
      ? contentDigest(step.source, { folders: true })
      : contentDigest('path' in step.script ? step.script.path : '', { folders: false });
  return content.ok && fingerprintOf(step, content.digest) === step.fingerprint;
}

const sha256 = (parts: readonly unknown[]): string => createHash('sha256').update(JSON.stringify(parts)).digest('hex');
