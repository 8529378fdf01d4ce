import { mkdtempSync, rmSync } from 'node:fs';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { protocolVersion } from '../../../src/agent/protocol.ts';
import { AgentServer } from '../../../src/agent/server.ts';
import type { Service } from '../../../src/agent/service.ts';
import type { Emit } from '../../../src/model/events.ts';
import { until } from '../../support/until.ts';

test('an agent whose command was killed is busy until what it began is over, and only then has nothing to do', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'agent-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  let emit: Emit | undefined;
  let finish = (): void => {};
  const work = new Promise<void>((resolve) => {
    finish = resolve;
  });
  const run = async (_command: unknown, _parallel: number, tell: Emit) => {
    emit = tell;
    await work;
    return {};
  };
  const server = new AgentServer({ run } as unknown as Service);
  onTestFinished(() => server.retire());
  let idle = 0;
  server.onIdle = () => {
    idle++;
  };
  const path = join(folder, 'agent.sock');
  await server.listen(path);
  const client = connect(path);
  const call = { do: 'run', command: { command: 'halt', targets: [], force: false }, parallel: 1 };
  client.write(`${JSON.stringify({ version: protocolVersion, client: { pid: 1, command: 'tsv halt' }, call })}\n`);
  await until('the command runs', () => emit !== undefined);
  client.destroy();
  await until('nobody listens any more', () => {
    emit?.({ type: 'notice', text: 'still at work' });
    return server.connected === 0;
  });
  expect([server.busy, idle]).toEqual([true, 0]);
  finish();
  await until('it has nothing to do', () => idle > 0);
  expect(server.busy).toBe(false);
});
