import { PassThrough } from 'node:stream';
import { expect, test } from 'vitest';
import { untilSystem } from '../../../providers/kvm/system.ts';
import type { ExecResult, ExecSession } from '../../../src/model/provider.ts';

function hanging() {
  const signals: string[] = [];
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const session: ExecSession = {
    ...{ stdin, stdout, stderr },
    resize: () => {},
    signal: (name) => void signals.push(name),
    exited: new Promise<ExecResult>(() => {}),
  };
  return { signals, way: { exec: async () => session } };
}

test('a wait for a system that does not come is given up when it is interrupted, also where nothing answers', async () => {
  const { signals, way } = hanging();
  const interrupt = new AbortController();
  const waiting = untilSystem(way, interrupt.signal);
  setImmediate(() => interrupt.abort(new Error('interrupted')));
  await expect(waiting).rejects.toThrow('interrupted');
  expect(signals).toEqual(['TERM']);
});
