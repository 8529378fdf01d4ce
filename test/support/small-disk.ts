import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync } from 'node:fs';
import { join } from 'node:path';
import { onTestFinished, type TestContext } from 'vitest';
import { isRoot } from './root.ts';

export interface SmallDisk {
  /** As this process sees it. */
  readonly path: string;
  /** As seen by what runs behind {@link enter}. */
  readonly inside: string;
  readonly enter: readonly string[];
}

/** A tmpfs of some MiB, below a folder of the test's, in a mount namespace that ends with the test. */
export async function smallDisk(context: TestContext, folder: string, megabytes: number): Promise<SmallDisk> {
  const inside = mkdtempSync(join(folder, 'disk-'));
  const namespaces = isRoot ? ['--mount'] : ['--user', '--map-root-user', '--mount'];
  const script = `mount -t tmpfs -o size=${megabytes}m,mode=0700 tmpfs "$0" && echo ready && read -r _`;
  if (spawnSync('unshare', [...namespaces, 'true']).status !== 0) return context.skip('no mount namespaces here');
  const holder = spawn('unshare', [...namespaces, 'sh', '-c', script, inside], { stdio: ['pipe', 'pipe', 'inherit'] });
  onTestFinished(async () => {
    holder.stdin.end();
    if (holder.exitCode === null) await once(holder, 'close');
  });
  await once(holder.stdout, 'data');
  const enter = [
    'nsenter',
    `--target=${holder.pid}`,
    ...(isRoot ? [] : ['--user', '--preserve-credentials']),
    '--mount',
  ];
  return { path: `/proc/${holder.pid}/root${inside}`, inside, enter };
}
