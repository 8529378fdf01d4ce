import { describe, expect, test } from 'vitest';
import type { Ending, Observation, ProcessRef, State } from '../../../src/model/state.ts';
import { observe } from '../../../src/state/observe.ts';
import { newState } from '../../../src/state/store.ts';
import { processRef } from '../../../src/sys/process.ts';
import { fullState, machine, ref } from './fixtures.ts';

describe('observe', () => {
  const noted: Ending = { at: '2026-01-01T00:00:00.000Z', why: 'exited', code: 3 };
  const look = (state: State, ...alive: number[]): Observation =>
    observe(state, {
      isAlive: (process: ProcessRef | undefined) => process !== undefined && alive.includes(process.pid),
      ending: (machine) => (machine === 'noted' ? noted : undefined),
    });
  const state = (): State => fullState('/p');

  test('nothing without a state', () => {
    expect(observe(undefined)).toEqual({ state: undefined, machines: {}, sandboxAlive: false, servicesAlive: false });
  });

  test('a machine whose process lives runs', () => {
    expect(look(state(), 100, 101, 102, 1234)).toMatchObject({
      machines: { db: { state: 'running', process: ref(1234) } },
      sandboxAlive: true,
      servicesAlive: true,
    });
  });

  test('a machine whose process is gone stopped unexpectedly; one without a process was stopped', () => {
    const { process: _, ...halted } = machine;
    const both = { ...state(), machines: { db: machine, web: { ...halted, spec: { ...machine.spec, name: 'web' } } } };
    expect(look(both, 100, 101, 102).machines).toEqual({
      db: { state: 'stopped', unexpectedly: true },
      web: { state: 'stopped', unexpectedly: false },
    });
  });

  test('how it ended is what the agent has recorded, else what its keeper has noted', () => {
    const recorded: Ending = { at: '2026-01-02T00:00:00.000Z', why: 'oom', signal: 'KILL' };
    const own = (name: string) => ({ ...machine, spec: { ...machine.spec, name } });
    const both = { ...state(), machines: { db: { ...machine, ended: recorded }, noted: own('noted') } };
    expect(look(both, 100, 101, 102).machines).toEqual({
      db: { state: 'stopped', unexpectedly: true, ended: recorded },
      noted: { state: 'stopped', unexpectedly: true, ended: noted },
    });
  });

  test('a machine that lives without its sandbox is broken', () => {
    expect(look(state(), 101, 102, 1234)).toMatchObject({
      machines: { db: { state: 'broken', reasons: ['its sandbox is gone'] } },
      sandboxAlive: false,
      servicesAlive: false,
    });
  });

  const nat = {
    ...state().networks,
    default: { spec: { name: 'default', mode: 'nat' as const }, subnet: '', gateway: '', bridge: '' },
  };
  const services: readonly (readonly [string, State, readonly number[], boolean])[] = [
    ['dnsmasq died', state(), [100, 102], false],
    ['the uplink died', state(), [100, 101], false],
    [
      'no uplink is needed by isolated networks',
      { ...state(), sandbox: { holder: ref(100), rooted: false, dnsmasq: ref(101) } },
      [100, 101],
      true,
    ],
    [
      'a nat network lacks its uplink',
      { ...state(), networks: nat, sandbox: { holder: ref(100), rooted: false, dnsmasq: ref(101) } },
      [100, 101],
      false,
    ],
    [
      'root needs no uplink process',
      { ...state(), networks: nat, sandbox: { holder: ref(100), rooted: true, dnsmasq: ref(101) } },
      [100, 101],
      true,
    ],
    ['dnsmasq was never started', { ...state(), sandbox: { holder: ref(100), rooted: true } }, [100], false],
    [
      'making the sandbox was cut short',
      { ...newState('/p'), sandbox: { holder: ref(100), rooted: true } },
      [100],
      false,
    ],
  ];
  test.each(services)('services: %s', (_, before, alive, expected) => {
    expect(look(before, ...alive).servicesAlive).toBe(expected);
  });

  test('asks the real /proc by default', () => {
    const own = processRef(process.pid);
    if (own === undefined) throw new Error('no own process');
    const before = { ...newState('/p'), sandbox: { holder: own, rooted: true, dnsmasq: own } };
    expect(observe(before)).toMatchObject({ sandboxAlive: true, servicesAlive: true });
    const stale = { ...own, bootId: 'another boot' };
    expect(observe({ ...before, sandbox: { ...before.sandbox, holder: stale } }).sandboxAlive).toBe(false);
  });
});
