import { describe, expect, test } from 'vitest';
import { eventWords, renderEvent } from '../../../src/cli/render/machine-event.ts';
import type { MachineHappening } from '../../../src/model/machine-event.ts';
import type { Ending } from '../../../src/model/state.ts';

const ended = (ending: Omit<Ending, 'at'>): MachineHappening => ({ type: 'ended', ending: { at: '', ...ending } });
const health = (status: 'starting' | 'healthy' | 'unhealthy', reason?: string): MachineHappening => ({
  type: 'health',
  health: { status, since: '', ...(reason === undefined ? {} : { reason }) },
});

describe('what happened to a machine', () => {
  test.each<[MachineHappening, string]>([
    [{ type: 'created' }, 'created'],
    [{ type: 'unpaused' }, 'unpaused'],
    [{ type: 'adjusted', limits: ['memory', 'cpus'] }, 'has new limits: memory, cpus'],
    [{ type: 'provisioned', step: 'nginx' }, 'provisioned nginx'],
    [{ type: 'renamed', from: 'web' }, 'renamed, was web'],
    [{ type: 'cloned', from: 'web' }, 'created as a copy of web'],
    [ended({ why: 'exited', code: 3 }), 'ended with 3'],
    [ended({ why: 'killed', signal: 'TERM', detail: 'by tsv kill' }), 'killed by SIGTERM: by tsv kill'],
    [ended({ why: 'lost' }), 'ended, and nobody saw how'],
    [{ type: 'restarting', inMs: 2000, attempt: 3 }, 'restarts in 2 s (3rd time)'],
    [{ type: 'restarting', inMs: 100, attempt: 1 }, 'restarts in 0.1 s (1st time)'],
    [{ type: 'restarting', inMs: 60_000, attempt: 12 }, 'restarts in 60 s (12th time)'],
    [{ type: 'restarting', inMs: 60_000, attempt: 22 }, 'restarts in 60 s (22nd time)'],
    [{ type: 'given-up', attempts: 5 }, 'is not started again after 5 times'],
    [{ type: 'signalled', signal: 'HUP' }, 'got SIGHUP'],
    [health('starting'), 'is checked for health'],
    [health('healthy'), 'healthy'],
    [health('unhealthy', 'curl: no answer'), 'unhealthy: curl: no answer'],
  ])('%j is told as %s', (event, words) => {
    expect(eventWords(event)).toBe(words);
  });

  test('is one line with the local time and the name, whatever the machine said', () => {
    const time = new Date(2026, 0, 31, 9, 5, 7, 123).toISOString();
    const event = health('unhealthy', 'two\nlines\x1b[2J');
    expect(renderEvent({ time, machine: 'db', event }, 5, { colour: false })).toBe(
      '2026-01-31 09:05:07  db     unhealthy: two lines\n',
    );
    expect(renderEvent({ time, machine: 'db', event }, 5, { colour: true })).toContain('\x1b[31munhealthy');
  });
});
