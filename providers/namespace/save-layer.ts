import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { type Cgroup, canFreeze, freeze, isFrozen, thaw } from '../../src/cgroup/index.ts';
import { TsvError } from '../../src/model/errors.ts';
import { copyTree } from '../../src/oci/copy-tree.ts';
import { run } from '../../src/sys/command.ts';
import { O } from '../../src/sys/flags.ts';

/** A folder of the container that no layer holds, for people, and where it can be looked at. */
export interface Outside {
  readonly what: string;
  /** Opens it. The caller closes it. */
  open(): number;
}

/**
 * Copies what a running container has changed: the upper folder of its overlay, with whiteouts, owners, attributes. Its
 * processes stand still meanwhile; where the host has no freezer for them, it is seen whether anything changed in that time.
 * @param folder the layer's, which gets `fs`
 * @throws TSV_CACHE
 */
export async function saveUpper(
  upper: string,
  { folder, since, signal }: { readonly folder: string; readonly since: Date; readonly signal: AbortSignal },
  cgroup: Cgroup,
  outside: readonly Outside[],
): Promise<void> {
  const tree = join(folder, 'fs');
  mkdirSync(tree);
  const copy = async (): Promise<void> => {
    for (const place of outside) await refuseChanged(place, since);
    const [from, to] = [openSync(upper, O.RDONLY | O.DIRECTORY), openSync(tree, O.RDONLY | O.DIRECTORY)];
    try {
      const wrong = await copyTree(from, to, { exact: true, signal });
      signal.throwIfAborted();
      if (wrong !== undefined) throw new TsvError('TSV_CACHE', 'its files could not be copied', { details: [wrong] });
    } finally {
      closeSync(from);
      closeSync(to);
    }
  };
  if (canFreeze(cgroup)) {
    const wasFrozen = isFrozen(cgroup);
    await freeze(cgroup);
    try {
      await copy();
    } finally {
      if (!wasFrozen) thaw(cgroup);
    }
    return;
  }
  const before = await changeTimes(upper);
  await copy();
  if ((await changeTimes(upper)) !== before)
    throw new TsvError('TSV_CACHE', 'its files changed while they were copied', {
      details: ['this host has no freezer for its processes: tsv doctor tells more'],
    });
}

/** Whether something there is newer than the machine's start: a machine that is made from the layer would not have it. */
async function refuseChanged({ what, open }: Outside, since: Date): Promise<void> {
  const fd = open();
  try {
    const { code, stdout, stderr } = await run(
      ['find', '/proc/self/fd/3/', '-xdev', '-newerct', since.toISOString(), '-print', '-quit'],
      { holds: fd },
    );
    if (code === 0 && stdout === '') return;
    throw new TsvError(
      'TSV_CACHE',
      code === 0 ? `${what} has changed, which is not in a layer` : `${what}: ${stderr.trim()}`,
    );
  } finally {
    closeSync(fd);
  }
}

/** Every name below a folder with the time at which its file last changed in any way. */
async function changeTimes(folder: string): Promise<string> {
  const child = spawn('find', [folder, '-printf', '%P %i %C@\\0'], { stdio: ['ignore', 'pipe', 'ignore'] });
  const hash = createHash('sha256');
  const ended = once(child, 'close');
  for await (const chunk of child.stdout) hash.update(chunk as Buffer);
  const [code] = await ended;
  if (code !== 0) throw new TsvError('TSV_CACHE', 'its files could not be listed');
  return hash.digest('hex');
}
