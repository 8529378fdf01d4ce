import { randomBytes } from 'node:crypto';
import { mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { makeLayout, mustRun, TestRegistry } from './registry.ts';

const bigBytes = 3_000_000;

export interface TeamRegistry {
  readonly registry: TestRegistry;
  /** For what a file's tests make besides. */
  readonly dir: string;
  /** `FOLDER:TAG` of the layout that `team/app` came from. */
  readonly layout: string;
}

/**
 * A registry for all tests of a file, with `team/app` 1.0 and 1.1 (the same image of two layers, 3 MB) and `team/two`, which
 * has a third layer on top of these.
 */
export function teamRegistry(): () => TeamRegistry {
  let made: TeamRegistry | undefined;
  beforeAll(async () => {
    const dir = realpathSync(mkdtempSync(join(tmpdir(), 'tsv-images-')));
    const registry = await TestRegistry.start();
    const config = ['--config.cmd', '/bin/app', '--config.env', 'COLOUR=blue', '--config.label', 'a=b'];
    const base = { '/etc/base': 'base\n', '/bin/app': '#!/bin/sh\n' };
    const big = { '/big': randomBytes(bigBytes / 2).toString('hex') };
    const layout = makeLayout(join(dir, 'one'), 'one', [base, big], config);
    registry.push(layout, 'team/app:1.0');
    registry.push(layout, 'team/app:1.1');
    mustRun(dir, 'umoci', 'tag', '--image', layout, 'two');
    mustRun(dir, 'sh', '-c', 'mkdir -p tree/etc && echo two > tree/etc/two');
    const two = layout.replace(/one$/, 'two');
    mustRun(dir, 'umoci', 'insert', '--rootless', '--image', two, join(dir, 'tree'), '/');
    registry.push(two, 'team/two:latest');
    made = { registry, dir, layout };
  });
  afterAll(async () => {
    await made?.registry.close();
    if (made !== undefined) rmSync(made.dir, { recursive: true, force: true });
  });
  return () => {
    if (made === undefined) throw new Error('the registry is made before the first test');
    return made;
  };
}
