import { describe, expect, test } from 'vitest';
import { adjustMachine } from '../../../src/agent/adjust.ts';
import type { MachineHappening } from '../../../src/model/machine-event.ts';
import type { MachineContext } from '../../../src/model/provider.ts';
import type { MachineState } from '../../../src/model/state.ts';
import { processRef } from '../../../src/sys/process.ts';
import { container, vm } from '../plan/fixtures.ts';

const alive = processRef(process.pid);

/** A machine whose provider has the limits set, or throws. */
function lab(before: Partial<MachineState>, set: () => void = () => {}) {
  const spec = container('web', { memoryBytes: 1, env: { A: 'b' } });
  let record = { spec, ...(alive === undefined ? {} : { process: alive }), ...before } as MachineState;
  const seen: { asked: number; happened: MachineHappening[] } = { asked: 0, happened: [] };
  const adjusting = {
    provider: {
      async adjust() {
        seen.asked++;
        set();
      },
    },
    signal: new AbortController().signal,
    record: () => record,
    context: () => ({}) as MachineContext,
    async update(change: (record: MachineState) => MachineState) {
      record = change(record);
    },
    notice: expect.unreachable,
    happened: (event: MachineHappening) => void seen.happened.push(event),
  };
  return { seen, adjusting, spec: () => record.spec };
}

const wanted = container('web', { memoryBytes: 2, pids: 5, env: { A: 'other' } });

describe('a machine that is to have other limits', () => {
  test('is remembered with them, and with nothing else, once they are in force', async () => {
    const { seen, adjusting, spec } = lab({});
    await adjustMachine(wanted, adjusting);
    expect(spec()).toMatchObject({ memoryBytes: 2, pids: 5, env: { A: 'b' } });
    expect(seen).toEqual({ asked: 1, happened: [{ type: 'adjusted', limits: ['memory', 'pids'] }] });
  });

  test('is remembered as it was when they are refused', async () => {
    const { seen, adjusting, spec } = lab({}, () => {
      throw new Error('refused');
    });
    await expect(adjustMachine(wanted, adjusting)).rejects.toThrow('refused');
    expect([spec().memoryBytes, seen.happened]).toEqual([1, []]);
  });

  test('gets them at its next start when it has ended meanwhile', async () => {
    const { seen, adjusting, spec } = lab({ process: { pid: 1, startTime: '-1', bootId: '' } });
    await adjustMachine(wanted, adjusting);
    expect([spec().memoryBytes, seen.asked]).toEqual([2, 0]);
  });

  test('has to take part when it is a virtual machine: a paused one cannot', async () => {
    const { seen, adjusting } = lab({ spec: vm('web'), paused: true });
    await expect(adjustMachine(vm('web', { cpus: 2 }), adjusting)).rejects.toMatchObject({ code: 'TSV_NOT_RUNNING' });
    expect(seen.asked).toBe(0);
  });
});
