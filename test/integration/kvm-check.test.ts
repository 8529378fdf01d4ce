import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, type TestContext, test } from 'vitest';
import { createAccelChooser } from '../../providers/kvm/accel.ts';
import { builtFile } from '../../src/app/place.ts';
import { type Guest, guests } from '../../src/kvm/guests.ts';
import { readKvmHost } from '../../src/kvm/host.ts';
import type { CheckMessage, CheckReport } from '../../src/kvm/protocol.ts';
import { kvmDevice, type RunOptions, runCheck } from '../../src/kvm/run.ts';
import { killNow, start } from '../support/cli.ts';
import { listProcesses, readProcess } from '../support/host-processes.ts';
import { until } from '../support/until.ts';

const program = builtFile('parts/kvm-check.js');
const check = (options: Omit<RunOptions, 'program'> = {}): Promise<CheckReport> => runCheck({ program, ...options });

/** With the real device, where this user may open it. */
const withKvm = (name: string, work: () => Promise<void>): void =>
  test(name, (context: TestContext) => {
    const { device } = readKvmHost();
    return device === 'open' ? work() : context.skip(`${kvmDevice} cannot be opened here: ${device}`);
  });

const guest = (step: Guest['step'], code: string): Guest => ({
  step,
  code,
  writes: [],
  leaves: { address: 0, content: '' },
});
const endless = guest('real-mode', 'eb fe'); // jmp .

/** What a test that failed would leave, busy for ever. */
function end(pid: number): void {
  if (readProcess(pid)?.command.includes(program) === true) process.kill(pid, 'SIGKILL');
}

const folder = (): string => {
  const made = mkdtempSync(join(tmpdir(), 'tsv-kvm-check-'));
  onTestFinished(() => rmSync(made, { recursive: true, force: true }));
  return made;
};

describe('the check of KVM', () => {
  withKvm('runs guests in real mode and in 64-bit mode, and what they compute is right', async () => {
    const { steps, failure } = await check();
    expect(failure).toBeUndefined();
    expect(steps.map(({ step }) => step)).toEqual([
      ...['open', 'api-version', 'extensions', 'create-vm', 'memory', 'create-vcpu', 'run-area', 'cpuid'],
      ...['registers', 'real-mode', 'long-mode'],
    ]);
    const exits = steps.slice(-2).map(({ calls }) => calls.filter(({ name }) => name === 'KVM_RUN'));
    expect(exits.map((calls) => calls.map(({ note }) => note))).toEqual([
      ['KVM_EXIT_IO: out of 2 bytes to port 0x2a: 0x13ba', 'KVM_EXIT_HLT'],
      [
        ...['0xb0549422', '0x26613a05', '0x20767374'].map(
          (value) => `KVM_EXIT_IO: out of 4 bytes to port 0x2a: ${value}`,
        ),
        'KVM_EXIT_HLT',
      ],
    ]);
  });

  withKvm('ends a guest that does not come back, and says which it was (F20)', async () => {
    const { steps, failure } = await check({ guests: [endless], limitMs: 300 });
    expect(failure).toEqual({ step: 'real-mode', failure: { kind: 'hang', limitMs: 300 } });
    expect(steps.at(-2)?.step).toBe('registers');
    const left = [...listProcesses().values()].filter(
      ({ parent, command }) => parent === process.pid && command.includes(program),
    );
    for (const { pid } of left) end(pid);
    expect(left).toEqual([]);
  });

  withKvm('ends with whoever asked for it, even in a guest that does not come back', async () => {
    const job = JSON.stringify({ device: kvmDevice, guests: [endless] });
    const shell = start('/', ['sh', '-c', '"$@" & echo "pid $!"; wait', 'sh', process.execPath, program, job]);
    const pid = Number((await shell.prints(/pid (\d+)/))[1]);
    onTestFinished(() => end(pid));
    await shell.prints(/"begin":"real-mode"/);
    expect(readProcess(pid)).toBeDefined();
    await killNow(shell.pid);
    await until('the check is gone', () => readProcess(pid) === undefined);
  });

  withKvm('sees a guest that computes something else', async () => {
    const [real] = guests;
    if (real === undefined) throw new Error('there are guests');
    const other = await check({ guests: [{ ...real, code: real.code.replace('b9 64 00', 'b9 65 00') }] });
    expect(other.failure).toMatchObject({
      step: 'real-mode',
      failure: { kind: 'answer', text: expect.stringContaining('0x141f; right would be 0x13ba (2 bytes)') },
    });
    const early = await check({ guests: [{ ...real, code: 'f4' }] });
    expect(early.failure?.failure).toMatchObject({ text: 'the guest halted before it had written its result' });
    const memory = await check({ guests: [{ ...real, leaves: { ...real.leaves, content: 'ffff' } }] });
    expect(memory.failure?.failure).toMatchObject({ text: expect.stringContaining('left ba13 at 0x2000') });
  });

  withKvm('sees a guest in 64-bit mode that uses memory by an address that no page table has', async () => {
    // mov eax, [longData]: where the page lies, which is not where it is mapped
    const { failure } = await check({ guests: [guest('long-mode', '8b 04 25 00 90 00 00 f4')] });
    expect(failure).toMatchObject({
      step: 'long-mode',
      failure: { kind: 'answer', text: expect.stringMatching(/^KVM_EXIT_SHUTDOWN/) },
    });
  });

  test('names the step and the errno, for a device that is something else and for none', async () => {
    const [first, second] = [await check({ device: '/dev/null' }), await check({ device: '/dev/tsv-is-not-there' })];
    expect(first.steps.map(({ step }) => step)).toEqual(['open', 'api-version']);
    const notKvm = { kind: 'errno', call: 'KVM_GET_API_VERSION', errno: 'ENOTTY' };
    expect(first.failure).toEqual({ step: 'api-version', failure: notKvm });
    expect(second.failure).toEqual({ step: 'open', failure: { kind: 'errno', call: 'open', errno: 'ENOENT' } });
  });

  test('that cannot be made says so, and nothing of KVM', async () => {
    const { failure } = await runCheck({ program: join(folder(), 'nothing.js') });
    expect(failure).toMatchObject({
      step: 'start',
      failure: { kind: 'died', text: expect.stringContaining('Cannot find module') },
    });
  });
});

describe('the choice of acceleration', () => {
  /** A QEMU that is not there: a trial that was made would say so. */
  const chooser = (checkProgram: string) => {
    const dir = folder();
    const cacheFile = join(dir, 'kvm-trial.json');
    const chooser = createAccelChooser({
      qemuBinary: join(dir, 'qemu'),
      cacheFile,
      check: () => runCheck({ program: checkProgram }),
    });
    return { cacheFile, ...chooser };
  };

  withKvm('goes by a check that fails, without a trial, and asks again the next time', async () => {
    const stand = join(folder(), 'check.mjs');
    const failure = { kind: 'errno', call: 'KVM_CREATE_VCPU', errno: 'EINVAL' } as const;
    const end = { step: 'create-vcpu', ms: 1, detail: '', calls: [], failure } as const;
    const said: CheckMessage[] = [{ begin: 'create-vcpu' }, { end }];
    writeFileSync(stand, said.map((message) => `console.log(${JSON.stringify(JSON.stringify(message))});`).join('\n'));
    const { choose, cacheFile } = chooser(stand);
    const { accel, reason } = await choose('auto', '/kernel');
    expect(accel).toBe('tcg');
    expect(reason).toContain(
      'cannot be used: give it a virtual CPU: KVM_CREATE_VCPU failed with EINVAL (invalid argument',
    );
    expect(existsSync(cacheFile)).toBe(false);
    await expect(choose('kvm', '/kernel')).rejects.toMatchObject({ code: 'TSV_VM_ACCEL' });
  });

  withKvm('goes on to the trial after a check that works, and does not make that again', async () => {
    const { choose, look, facts, cacheFile } = chooser(program);
    expect(await look(facts())).toMatchObject({ check: { works: true } });
    expect(existsSync(cacheFile), 'a look keeps nothing').toBe(false);
    expect((await choose('auto', '/kernel')).reason).toMatch(/no kernel boots on it/);
    expect(JSON.parse(readFileSync(cacheFile, 'utf8'))).toMatchObject({ check: { works: true } });
  });
});
