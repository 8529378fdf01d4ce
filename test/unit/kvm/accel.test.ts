import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cachedTrial, decideAccel, type KvmFacts, rememberTrial } from '../../../providers/kvm/accel.ts';
import { kvmRequirement, tunRequirement } from '../../../providers/kvm/probe.ts';
import type { TrialResult } from '../../../providers/kvm/trial.ts';

const good: KvmFacts = {
  device: 'open',
  deviceMode: '0:107 660',
  cpuFlags: 'vmx',
  cpuModel: 'a CPU',
  kernelRelease: '6.1.0',
  qemu: '/usr/bin/qemu 1 2',
};
const works: TrialResult = { works: true, reason: 'a trial guest started its kernel' };
const fails: TrialResult = { works: false, reason: 'error: failed to set MSR 0x10a to 0x69' };
const hangs: TrialResult = {
  works: false,
  inconclusive: true,
  reason: 'a trial guest did not start its kernel within 4000 ms',
};

describe('acceleration', () => {
  const table: [string, Partial<KvmFacts>, TrialResult | undefined, 'kvm' | 'tcg', RegExp][] = [
    ['works', {}, works, 'kvm', /a trial guest ran on it/],
    ['has no kernel to try, but the flags', {}, undefined, 'kvm', /the CPU has vmx; no trial/],
    [
      'has no kernel to try, on another architecture',
      { cpuFlags: 'unknown' },
      undefined,
      'kvm',
      /no trial guest was run/,
    ],
    [
      'has no kernel to try and no flags',
      { cpuFlags: 'none' },
      undefined,
      'tcg',
      /nothing shows that it works.*neither vmx nor svm/,
    ],
    ['works without the flags being shown', { cpuFlags: 'none' }, works, 'kvm', /a trial guest ran/],
    ['is absent', { device: 'ENOENT' }, undefined, 'tcg', /there is no \/dev\/kvm/],
    [
      'may not be opened',
      { device: 'EACCES' },
      undefined,
      'tcg',
      /may not be opened by this user \(owner and mode 0:107 660\)/,
    ],
    ['is busy', { device: 'EBUSY' }, undefined, 'tcg', /busy/],
    ['fails in a new way', { device: 'ENODEV' }, undefined, 'tcg', /cannot be opened \(ENODEV\)/],
    [
      'opens but is broken',
      { cpuFlags: 'none' },
      fails,
      'tcg',
      /no guest runs on it: error: failed to set MSR.*neither vmx/,
    ],
    ['opens but hangs', {}, hangs, 'tcg', /did not start its kernel within 4000 ms/],
  ];

  test.each(table)('that %s gives the choice and its reason (F20)', (_, facts, trial, accel, reason) => {
    const choice = decideAccel('auto', { ...good, ...facts }, trial);
    expect(choice.accel).toBe(accel);
    expect(choice.reason).toMatch(reason);
  });

  test.each(table.filter(([, , , accel]) => accel === 'tcg'))(
    'that %s is an error when the Tsfile asks for kvm',
    (_, facts, trial, _accel, reason) => {
      expect(() => decideAccel('kvm', { ...good, ...facts }, trial)).toThrow(
        expect.objectContaining({ code: 'TSV_VM_ACCEL', details: [expect.stringMatching(reason)] }),
      );
    },
  );

  test('is left alone when the Tsfile asks for tcg', () => {
    expect(decideAccel('tcg', good, works)).toEqual({ accel: 'tcg', reason: 'the Tsfile asks for it' });
  });
});

describe('the remembered trial', () => {
  let dir: string;
  let file: string;
  beforeEach(() => {
    dir = mkdtempSync(join(tmpdir(), 'tsv-accel-'));
    file = join(dir, 'cache', 'kvm-trial.json');
  });
  afterEach(() => rmSync(dir, { recursive: true }));

  test('counts for an unchanged host only', () => {
    rememberTrial(file, good, fails);
    expect(cachedTrial(file, good)).toEqual(fails);
    for (const change of [
      { kernelRelease: '6.2.0' },
      { cpuModel: 'other' },
      { qemu: '/usr/bin/qemu 1 3' },
      { deviceMode: '0:0 600' },
    ]) {
      expect(cachedTrial(file, { ...good, ...change })).toBeUndefined();
    }
  });

  test('is asked again after a day when it only ran out of time', () => {
    const hour = 3600 * 1000;
    rememberTrial(file, good, hangs);
    expect(cachedTrial(file, good, Date.now() + hour)).toEqual(hangs);
    expect(cachedTrial(file, good, Date.now() + 25 * hour)).toBeUndefined();
    rememberTrial(file, good, fails);
    expect(cachedTrial(file, good, Date.now() + 25 * hour)).toEqual(fails);
  });

  test('that is damaged is none', () => {
    rememberTrial(file, good, works);
    for (const text of ['', '{', 'null', '[]', '{"key": 1}']) {
      writeFileSync(file, text);
      expect(cachedTrial(file, good)).toBeUndefined();
    }
  });
});

describe('tsv doctor', () => {
  test('names the command that opens /dev/kvm to the user', () => {
    expect(kvmRequirement({ ...good, device: 'EACCES' }, undefined, 'ann')).toMatchObject({
      ok: false,
      required: false,
      mend: 'sudo usermod --append --groups kvm ann   # then log in again',
    });
  });

  test('names the module of this CPU when /dev/kvm is absent, and none for a CPU without the ability', () => {
    const absent = { ...good, device: 'ENOENT' };
    expect(kvmRequirement(absent, undefined, 'ann').mend).toBe('sudo modprobe kvm_intel');
    expect(kvmRequirement({ ...absent, cpuFlags: 'svm' }, undefined, 'ann').mend).toBe('sudo modprobe kvm_amd');
    expect(kvmRequirement({ ...absent, cpuFlags: 'none' }, undefined, 'ann').mend).toBeUndefined();
  });

  test('believes a trial more than an opened device', () => {
    expect(kvmRequirement(good, fails, 'ann')).toMatchObject({
      ok: false,
      detail: expect.stringContaining('failed to set MSR'),
    });
    expect(kvmRequirement({ ...good, cpuFlags: 'none' }, works, 'ann').ok).toBe(true);
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
