import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import {
  checkResult,
  decideAccel,
  type Evidence,
  type KvmFacts,
  remember,
  remembered,
} from '../../../providers/kvm/accel.ts';
import { kvmRequirement, tunRequirement } from '../../../providers/kvm/probe.ts';
import type { TrialResult } from '../../../providers/kvm/trial.ts';
import type { CheckReport, Failure, StepId } from '../../../src/kvm/protocol.ts';

const good: KvmFacts = {
  device: 'open',
  deviceMode: '0:107 660',
  group: { name: 'kvm', isNew: false },
  cpuFlags: 'vmx',
  cpuModel: 'a CPU',
  cpuVendor: 'intel',
  isGuest: false,
  isRegistered: false,
  otherHypervisors: [],
  user: 'ann',
  kernelRelease: '6.1.0',
  qemu: '/usr/bin/qemu 1 2',
};
const runs: TrialResult = { works: true, reason: 'guests of a few instructions run on it' };
const broken: TrialResult = {
  works: false,
  reason: 'run a guest in 64-bit mode, with paging: KVM_EXIT_SHUTDOWN (KVM does not run code as a CPU does)',
};
const works: TrialResult = { works: true, reason: 'a trial guest started its kernel' };
const fails: TrialResult = { works: false, reason: 'error: failed to set MSR 0x10a to 0x69' };
const hangs: TrialResult = {
  works: false,
  inconclusive: true,
  reason: 'a trial guest did not start its kernel within 4000 ms',
};

describe('acceleration', () => {
  const table: [string, Partial<KvmFacts>, Evidence, 'kvm' | 'tcg', RegExp][] = [
    ['works', {}, { check: runs, trial: works }, 'kvm', /a trial guest ran on it/],
    ['has no kernel to try, but the flags', {}, {}, 'kvm', /the CPU has vmx; no trial/],
    [
      'has no kernel to try, but the flags and the check',
      {},
      { check: runs },
      'kvm',
      /the CPU has vmx, and guests of a few instructions run on it; no trial/,
    ],
    ['has no kernel to try, on another architecture', { cpuFlags: 'unknown' }, {}, 'kvm', /no trial guest was run/],
    [
      'has no kernel to try and no flags',
      { cpuFlags: 'none' },
      { check: runs },
      'tcg',
      /nothing shows that a kernel boots on it.*neither vmx nor svm/,
    ],
    ['works without the flags being shown', { cpuFlags: 'none' }, { trial: works }, 'kvm', /a trial guest ran/],
    ['is absent', { device: 'ENOENT' }, {}, 'tcg', /there is no \/dev\/kvm/],
    [
      'may not be opened',
      { device: 'EACCES' },
      {},
      'tcg',
      /may not be opened by this user \(owner and mode 0:107 660\)/,
    ],
    ['is busy', { device: 'EBUSY' }, {}, 'tcg', /busy/],
    ['fails in a new way', { device: 'ELOOP' }, {}, 'tcg', /cannot be opened \(ELOOP\)/],
    [
      'opens, but fails at a step of the check',
      {},
      { check: broken },
      'tcg',
      /cannot be used: run a guest in 64-bit mode, with paging: KVM_EXIT_SHUTDOWN/,
    ],
    [
      'opens but is broken',
      { cpuFlags: 'none' },
      { check: runs, trial: fails },
      'tcg',
      /no kernel boots on it: error: failed to set MSR.*neither vmx/,
    ],
    ['opens but hangs', {}, { check: runs, trial: hangs }, 'tcg', /did not start its kernel within 4000 ms/],
  ];

  test.each(table)('that %s gives the choice and its reason (F20)', (_, facts, evidence, accel, reason) => {
    const choice = decideAccel('auto', { ...good, ...facts }, evidence);
    expect(choice.accel).toBe(accel);
    expect(choice.reason).toMatch(reason);
  });

  test.each(table.filter(([, , , accel]) => accel === 'tcg'))(
    'that %s is an error when the Tsfile asks for kvm',
    (_, facts, evidence, _accel, reason) => {
      expect(() => decideAccel('kvm', { ...good, ...facts }, evidence)).toThrow(
        expect.objectContaining({ code: 'TSV_VM_ACCEL', details: [expect.stringMatching(reason)] }),
      );
    },
  );

  test('is left alone when the Tsfile asks for tcg', () => {
    expect(decideAccel('tcg', good, { trial: works })).toEqual({ accel: 'tcg', reason: 'the Tsfile asks for it' });
  });
});

describe('what the check says', () => {
  const failed = (step: StepId, failure: Failure): CheckReport => ({ steps: [], failure: { step, failure } });

  test('names the step that fails, why, and what mends it', () => {
    const errno = { kind: 'errno', call: 'KVM_CREATE_VM', errno: 'EBUSY' } as const;
    expect(checkResult(failed('create-vm', errno), { ...good, otherHypervisors: ['vboxdrv'] })).toMatchObject({
      works: false,
      transient: true,
      reason: expect.stringMatching(/^make a virtual machine: KVM_CREATE_VM failed with EBUSY \(.*vboxdrv/),
      mend: expect.stringContaining('sudo modprobe -r vboxnetadp'),
    });
  });

  test('of a step that hangs may be different another time', () => {
    expect(checkResult(failed('real-mode', { kind: 'hang', limitMs: 2000 }), good)).toMatchObject({
      works: false,
      inconclusive: true,
    });
  });

  test('is nothing when the check itself could not be made', () => {
    const died = { kind: 'died', text: 'Error: Cannot find module' } as const;
    expect(checkResult(failed('start', died), good)).toBeUndefined();
    expect(checkResult(failed('start', { kind: 'hang', limitMs: 10_000 }), good)).toBeUndefined();
    expect(checkResult(failed('cpuid', { kind: 'died', text: 'SIGKILL' }), good)).toBeUndefined();
  });
});

describe('what is remembered', () => {
  let dir: string;
  let file: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'tsv-accel-'));
    file = join(dir, 'cache', 'kvm-trial.json');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  test('counts for an unchanged host only', () => {
    const seen = { check: runs, trial: fails };
    remember(file, good, seen);
    expect(remembered(file, good)).toEqual(seen);
    for (const change of [
      { kernelRelease: '6.2.0' },
      { cpuModel: 'other' },
      { qemu: '/usr/bin/qemu 1 3' },
      { deviceMode: '0:0 600' },
    ]) {
      expect(remembered(file, { ...good, ...change })).toEqual({});
    }
  });

  test('is asked again after a day when it only ran out of time', () => {
    const hour = 3600 * 1000;
    remember(file, good, { check: runs, trial: hangs });
    expect(remembered(file, good, Date.now() + hour)).toEqual({ check: runs, trial: hangs });
    expect(remembered(file, good, Date.now() + 25 * hour)).toEqual({ check: runs });
    const stuck = { ...broken, inconclusive: true };
    remember(file, good, { check: stuck });
    expect(remembered(file, good, Date.now() + hour)).toEqual({ check: stuck });
    expect(remembered(file, good, Date.now() + 25 * hour)).toEqual({});
    remember(file, good, { check: runs, trial: fails });
    expect(remembered(file, good, Date.now() + 25 * hour)).toEqual({ check: runs, trial: fails });
  });

  test('is neither a check that failed at once, which costs nothing to repeat, nor a trial that met a busy KVM', () => {
    remember(file, good, { check: broken });
    expect(remembered(file, good)).toEqual({});
    remember(file, good, { check: runs, trial: { ...fails, transient: true } });
    expect(remembered(file, good)).toEqual({ check: runs });
  });

  test('is nothing when it is damaged', () => {
    remember(file, good, { trial: works });
    for (const text of ['', '{', 'null', '[]', '{"key": 1}']) {
      writeFileSync(file, text);
      expect(remembered(file, good)).toEqual({});
    }
  });

  test('is a trial without a check, too: an older version wrote it', () => {
    remember(file, good, { trial: works });
    expect(remembered(file, good)).toEqual({ trial: works });
  });
});

describe('tsv doctor', () => {
  test('names the command that opens /dev/kvm to the user', () => {
    expect(kvmRequirement({ ...good, device: 'EACCES' }, {})).toMatchObject({
      ok: false,
      required: false,
      mend: 'sudo usermod --append --groups kvm ann   # then log in again',
    });
  });

  test('names the module of this CPU when /dev/kvm is absent, and none for a CPU without the ability', () => {
    const absent = { ...good, device: 'ENOENT' };
    expect(kvmRequirement(absent, {}).mend).toBe('sudo modprobe kvm_intel');
    expect(kvmRequirement({ ...absent, cpuFlags: 'svm' }, {}).mend).toBe('sudo modprobe kvm_amd');
    expect(kvmRequirement({ ...absent, cpuFlags: 'none' }, {}).mend).toBeUndefined();
  });

  test('names the step of the check that fails', () => {
    expect(kvmRequirement(good, { check: { ...broken, mend: 'sudo something' } })).toMatchObject({
      ok: false,
      detail: expect.stringContaining('run a guest in 64-bit mode, with paging: KVM_EXIT_SHUTDOWN'),
      mend: 'sudo something',
    });
  });

  test('believes a check that fails most, then a trial, then a check that works, and an opened device least', () => {
    expect(kvmRequirement(good, { check: broken, trial: works }).ok).toBe(false);
    expect(kvmRequirement(good, { check: runs, trial: fails })).toMatchObject({
      ok: false,
      detail: expect.stringContaining('failed to set MSR'),
    });
    expect(kvmRequirement({ ...good, cpuFlags: 'none' }, { trial: works }).ok).toBe(true);
    expect(kvmRequirement(good, { check: runs })).toMatchObject({
      ok: true,
      detail: expect.stringMatching(/^guests of a few instructions run on it; the CPU has vmx; the first start/),
    });
    expect(kvmRequirement({ ...good, cpuFlags: 'none' }, { check: runs }).ok).toBe(false);
  });

  test('names the commands for /dev/net/tun', () => {
    expect(tunRequirement(undefined).ok).toBe(true);
    expect(tunRequirement('EACCES')).toMatchObject({
      ok: false,
      required: true,
      mend: expect.stringContaining('sudo chmod 0666 /dev/net/tun'),
    });
    expect(tunRequirement('ENOENT').mend).toContain('sudo modprobe tun');
  });
});
