import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir, userInfo } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach } from 'vitest';
import type { TsvError } from '../../../src/model/errors.ts';
import type { FileStep, ProvisionStep, ShellStep } from '../../../src/model/project.ts';
import { runStep } from '../../../src/provision/runner.ts';
import { type HostTransport, hostTransport } from '../../support/host-transport.ts';

export const me = userInfo();

/** A fresh machine (the host) for every test, and what was printed on it. */
export function useMachine() {
  const it = {
    dir: '',
    transport: undefined as unknown as HostTransport,
    output: [] as string[],
    abort: new AbortController(),
    onLine: (_line: string) => {},
    async run(step: ProvisionStep): Promise<void> {
      await runStep({
        step,
        transport: it.transport,
        machine: 'web-1',
        user: me.username,
        signal: it.abort.signal,
        emit(event) {
          if (event.type !== 'output') return;
          it.output.push(`${event.machine} ${event.step} ${event.stream}: ${event.text}`);
          it.onLine(event.text);
        },
      });
    },
    /** The error of a step that must fail. */
    async failure(step: ProvisionStep): Promise<TsvError> {
      return it.run(step).then(
        () => Promise.reject(new Error('the step succeeded')),
        (error: TsvError) => error,
      );
    },
  };
  beforeEach(() => {
    it.dir = mkdtempSync(join(tmpdir(), 'tsv-provision-test-'));
    it.transport = hostTransport(it.dir);
    it.output = [];
    it.abort = new AbortController();
    it.onLine = () => {};
  });
  afterEach(() => rmSync(it.dir, { recursive: true, force: true }));
  return it;
}

const base = { name: 'install', run: 'once', fingerprint: '' } as const;

export function shell(script: string | { path: string }, changes: Partial<ShellStep> = {}): ShellStep {
  const where = typeof script === 'string' ? { inline: script } : script;
  return { ...base, type: 'shell', script: where, args: [], env: {}, privileged: true, ...changes };
}

export function file(source: string, destination: string, changes: Partial<FileStep> = {}): FileStep {
  return { ...base, name: 'copy', type: 'file', source, destination, ...changes };
}
