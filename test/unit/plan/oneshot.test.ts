import { describe, expect, test } from 'vitest';
import type { Machine, Project } from '../../../src/model/project.ts';
import type { Ending, Observation, Observed } from '../../../src/model/state.ts';
import { withLive } from '../../../src/plan/changes.ts';
import {
  afterUp,
  alive,
  container,
  edit,
  ended,
  nothing,
  printed,
  project,
  step,
  text,
  vm,
  withRecord,
} from './fixtures.ts';

const check = { tcp: 80, everyMs: 1000, timeoutMs: 1000, retries: 3, startPeriodMs: 0 };

/** An application that needs a healthy database with a schema that a one-shot machine makes. */
const shop = project([
  container('app', {
    dependsOn: [
      { machine: 'db', condition: 'healthy' },
      { machine: 'migrate', condition: 'completed' },
    ],
  }),
  container('db', { healthcheck: check }),
  container('migrate', { oneshot: true, command: ['migrate'], dependsOn: [{ machine: 'db', condition: 'healthy' }] }),
]);
const up = (wanted: Project, observation: Observation, targets: string[] = [], wait = true) =>
  printed({ command: 'up', wanted, observation, targets, options: { wait } });
const endedBy = (ending: Partial<Ending>): Observed => ({
  state: 'stopped',
  unexpectedly: true,
  ended: { at: '2026-01-01T00:00:00Z', why: 'exited', ...ending },
});

describe('a one-shot machine', () => {
  test('is started, not waited for until it can be reached, and has completed before what needs that starts', () => {
    expect(up(shop, nothing)).toBe(text`
      [1]  sandbox.ensure  (new)
      [2] <- 1  network.ensure default  (new)
      [3]  box.ensure debian-12 container  (needed by db and 2 more)
      [4] <- 2,3  machine.create db  (new)
      [5] <- 4  machine.start db  (new)
      [6] <- 5  machine.wait db  (started)
      [7] <- 6  machine.healthy db  (started)
      [8] <- 2,3  machine.create migrate  (new)
      [9] <- 7,8  machine.start migrate  (new)
      [10] <- 9  machine.completed migrate  (started)
      [11] <- 2,3  machine.create app  (new)
      [12] <- 10,11  machine.start app  (new)
      [13] <- 12  machine.wait app  (started)
    `);
  });

  test('that has ended with 0 is as wanted, also for a machine that needs it and starts', () => {
    expect(up(shop, afterUp(shop, { migrate: ended(0) }))).toBe('nothing to do');
    expect(up(shop, afterUp(shop, { migrate: ended(0), app: ended(1) }))).toBe(text`
      [1]  machine.healthy db  (app needs it)
      [2] <- 1  machine.start app  (ended with 1)
      [3] <- 2  machine.wait app  (started)
    `);
  });

  test.each([
    [ended(3), 'ended with 3'],
    [endedBy({ why: 'killed', signal: 'SEGV' }), 'killed by SIGSEGV'],
    [endedBy({ why: 'oom' }), 'out of memory'],
    [endedBy({ why: 'lost' }), 'ended, and nobody saw how'],
    [{ state: 'stopped', unexpectedly: true } as const, 'ended unexpectedly'],
  ])('that has ended otherwise is run again (%j)', (observed, cause) => {
    expect(up(shop, afterUp(shop, { migrate: observed }), ['migrate'])).toBe(
      [
        '[1]  machine.healthy db  (migrate needs it)',
        `[2] <- 1  machine.start migrate  (${cause})`,
        '[3] <- 2  machine.completed migrate  (started)',
      ].join('\n'),
    );
  });

  test('that still runs is waited for by a machine that starts and needs its end, and by nobody else', () => {
    expect(up(shop, afterUp(shop, { migrate: alive }))).toBe('nothing to do');
    expect(up(shop, afterUp(shop, { migrate: alive, app: ended(0) }))).toBe(text`
      [1]  machine.healthy db  (app needs it)
      [2]  machine.completed migrate  (app needs it)
      [3] <- 1,2  machine.start app  (ended with 0)
      [4] <- 3  machine.wait app  (started)
    `);
  });

  test('that has completed runs again when what it runs has changed, or when a reload names it', () => {
    const changed = edit(shop, { migrate: { command: ['migrate', '--all'] } });
    expect(up(changed, afterUp(shop, { migrate: ended(0) }))).toContain('machine.start migrate  (command changed)');
    const reload = (targets: string[]) =>
      printed({ command: 'reload', wanted: shop, observation: afterUp(shop, { migrate: ended(0) }), targets });
    expect(reload(['migrate'])).toContain('machine.start migrate  (reload)');
    expect(reload(['app'])).not.toContain('migrate');
  });

  test('is not waited for when nobody depends on its end', () => {
    const alone = project([container('job', { oneshot: true, command: ['job'] })]);
    const plan = up(alone, nothing);
    expect(plan).toContain('machine.start job');
    expect(plan).not.toMatch(/machine\.(wait|completed)/);
  });

  test('that is a VM is provisioned before it ends', () => {
    const alone = project([vm('job', { oneshot: true, provision: [step('work')] })]);
    expect(up(alone, nothing)).toContain(text`
      [6] <- 5  machine.wait job  (started)
      [7] <- 6  machine.provision job work  (not done)
    `);
    expect(up(alone, withRecord(afterUp(alone, { job: ended(0) }), 'job', { steps: {} }))).toBe('nothing to do');
  });

  test('that has completed is left alone by halt, and removed by destroy', () => {
    const alone = project([container('job', { oneshot: true, command: ['job'] })]);
    const after = (observed: Observed): Observation => afterUp(alone, { job: observed });
    const down = (command: 'halt' | 'destroy', observed: Observed) =>
      printed({ command, wanted: undefined, observation: after(observed) });
    expect(down('halt', ended(0))).toBe('[1]  sandbox.remove  (last machine)');
    expect(down('halt', ended(3))).toContain('machine.stop job  (ended with 3)');
    expect(down('destroy', ended(0))).toContain('machine.destroy job');
  });
});

describe('tsv up --no-wait', () => {
  const machines = project([
    container('app', { dependsOn: [{ machine: 'db', condition: 'healthy' }], provision: [step('assets')] }),
    container('db', { healthcheck: check, provision: [step('schema')] }),
    vm('builder', { provision: [step('tools')], healthcheck: check }),
    container('web', { healthcheck: check }),
  ]);

  test('waits for what other machines need, provisions that, and leaves the rest to the next up', () => {
    const after = afterUp(machines, Object.fromEntries(machines.machines.map(({ name }) => [name, ended(1)])));
    const stripped = ['app', 'db', 'builder', 'web'].reduce(
      (observation, name) => withRecord(observation, name, { ready: false, steps: {} }),
      after,
    );
    expect(up(machines, stripped, [], false)).toBe(text`
      [1]  network.ensure default  (no machine runs on it)
      [2] <- 1  machine.start db  (ended with 1)
      [3] <- 2  machine.wait db  (started)
      [4] <- 3  machine.provision db schema  (not done)
      [5] <- 4  machine.healthy db  (started)
      [6] <- 5  machine.start app  (ended with 1)
      [7] <- 6  machine.wait app  (started)
      [8] <- 1  machine.start builder  (ended with 1)
      [9] <- 1  machine.start web  (ended with 1)
      [10] <- 9  machine.wait web  (started)
    `);
  });

  test('after it, an up goes on with what is left', () => {
    const before = withRecord(withRecord(afterUp(machines), 'builder', { ready: false, steps: {} }), 'app', {
      steps: {},
    });
    expect(up(machines, before)).toBe(text`
      [1]  machine.provision app assets  (not done)
      [2]  machine.wait builder  (not ready)
      [3] <- 2  machine.provision builder tools  (not done)
      [4] <- 3  machine.healthy builder  (provisioned)
    `);
  });
});

describe('what a machine takes over as it is', () => {
  const before = container('a', { restart: { when: 'always' }, healthcheck: check, memoryBytes: 1 });

  test('are restart policy, health check, order and times, also where they are gone; nothing else', () => {
    const after: Machine = container('a', { oneshot: true, stopTimeoutMs: 1, memoryBytes: 2 });
    expect(withLive(before, after)).toEqual(container('a', { oneshot: true, stopTimeoutMs: 1, memoryBytes: 1 }));
    expect(up(project([container('a', { healthcheck: check })]), afterUp(project([before])))).not.toContain('restart');
  });

  test('is the same machine where nothing of it has changed', () => {
    expect(withLive(before, { ...before, memoryBytes: 2 })).toBe(before);
  });
});
