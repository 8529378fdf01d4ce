import { describe, expect, test } from 'vitest';
import { type OneOffOptions, OneOffs, type OneOffWork } from '../../../src/agent/one-off.ts';
import type { StateStore } from '../../../src/state/store.ts';
import { deferred } from '../../support/deferred.ts';
import { afterUp, container, project } from '../plan/fixtures.ts';

const shop = project([container('run-2'), container('web-1', { group: 'web' })]);
const call = (name?: string) =>
  ({
    do: 'one-off',
    project: project([...shop.machines, container('db')]),
    machine: container('run', { oneOff: true }),
    ...(name === undefined ? {} : { name }),
    boxes: {},
    request: { argv: ['true'] },
  }) as const;

function oneOffs(options: Partial<OneOffOptions> = {}) {
  const done: string[] = [];
  const works: OneOffWork[] = [];
  const made = new OneOffs({
    store: { current: afterUp(shop).state } as unknown as StateStore,
    bringUp: async (work) => {
      works.push(work);
      done.push(`bring up ${work.target}`);
    },
    remove: async (name) => {
      done.push(`remove ${name}`);
    },
    ...options,
  });
  const start = (name?: string) => made.start(call(name), () => {}, new AbortController().signal);
  return { made, start, done, works };
}

describe('a container for one command', () => {
  test('gets a name that no machine has: made, in the Tsfile, or another of its kind', async () => {
    const { start, made, works } = oneOffs();
    expect([await start(), await start()]).toEqual(['run-1', 'run-3']);
    await made.end('run-1');
    expect([await start(), await start('client')]).toEqual(['run-1', 'client']);
    for (const name of ['web', 'web-1', 'db', 'client']) await expect(start(name)).rejects.toThrow(`machine ${name}`);
    expect(works[0]?.project.machines).toMatchObject([{ name: 'run-1', group: 'run-1', hostname: 'run-1' }]);
  });

  test('is removed once, and its name is free only then', async () => {
    const removed = deferred<void>();
    const removals: string[] = [];
    const { start, made } = oneOffs({
      remove: (name) => {
        removals.push(name);
        return removed.promise;
      },
    });
    await start();
    const ends = [made.end('run-1'), made.end('run-1')];
    expect(await start()).toBe('run-3');
    removed.resolve();
    await Promise.all(ends);
    await made.end('run-1');
    expect(removals).toEqual(['run-1']);
    expect(await start()).toBe('run-1');
  });

  test('that could not be started is removed, and the error is that of the start', async () => {
    const { start, done } = oneOffs({ bringUp: () => Promise.reject(new Error('no memory')) });
    await expect(start()).rejects.toThrow('no memory');
    expect(done).toEqual(['remove run-1']);
  });
});
