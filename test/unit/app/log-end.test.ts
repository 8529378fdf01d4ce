import { describe, expect, test } from 'vitest';
import { mayPrint, type Prospects } from '../../../src/app/log-end.ts';
import type { Restart } from '../../../src/model/project.ts';
import { machine } from '../state/fixtures.ts';

const prospects = (change: Partial<Prospects>, restart?: Restart): Prospects => {
  const record = { ...machine, ended: { at: '', why: 'exited' as const, code: 1 } };
  return {
    record: restart === undefined ? record : { ...record, spec: { ...record.spec, restart } },
    alive: false,
    agent: true,
    last: undefined,
    ...change,
  };
};
const { process: _, ...stopped } = machine;
const ended = (code: number): Prospects['last'] => ({ type: 'ended', ending: { at: '', why: 'exited', code } });

describe('whether a machine may print more', () => {
  test.each<[string, boolean, Prospects]>([
    ['it runs', true, prospects({ alive: true })],
    ['it does not exist', false, prospects({ record: undefined })],
    ['it ended, and nobody starts it again', false, prospects({})],
    ['it ended, and its agent has not noted that yet', true, prospects({ record: machine })],
    ['it ended while there was no agent', false, prospects({ record: machine, agent: false })],
    ['it was stopped', false, prospects({ record: stopped })],
    ['it is to be restarted, and its agent has not said yet', true, prospects({}, { when: 'always' })],
    ['its agent is gone', false, prospects({ agent: false }, { when: 'always' })],
    ['its restart waits', true, prospects({ last: { type: 'restarting', inMs: 1, attempt: 1 } }, { when: 'always' })],
    ['it failed and is restarted then', true, prospects({ last: ended(1) }, { when: 'on-failure' })],
    ['it succeeded and is restarted only when it fails', false, prospects({ last: ended(0) }, { when: 'on-failure' })],
    ['it succeeded and is always restarted', true, prospects({ last: ended(0) }, { when: 'always' })],
    ['it was renamed', false, prospects({ last: { type: 'renamed', from: 'a' } }, { when: 'always' })],
    ['its restarts were given up', false, prospects({ last: { type: 'given-up', attempts: 3 } }, { when: 'always' })],
  ])('%s: %s', (_, expected, given) => {
    expect(mayPrint(given)).toBe(expected);
  });
});
