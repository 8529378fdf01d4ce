import { describe, expect, test } from 'vitest';
import { describeCheck } from '../../../src/app/kvm-check.ts';
import { renderKvmCheck } from '../../../src/cli/render/kvm-check.ts';
import { explain } from '../../../src/kvm/explain.ts';
import type { KvmHost } from '../../../src/kvm/host.ts';
import type { CheckReport, Failure, StepId } from '../../../src/kvm/protocol.ts';
import { ascii } from '../render/support.ts';

const host: KvmHost = {
  device: 'open',
  deviceMode: '0:107 660',
  group: { name: 'kvm', isNew: false },
  cpuFlags: 'vmx',
  cpuModel: 'a CPU',
  cpuVendor: 'intel',
  isGuest: false,
  kernelRelease: '6.1.0',
  isRegistered: false,
  otherHypervisors: [],
  user: 'ann',
};
const { group: _, ...withoutGroup } = { ...host, deviceMode: '0:0 600' };

const failed = (step: StepId, failure: Failure): CheckReport => ({
  steps: [{ step, ms: 0.5, detail: '', calls: [], failure }],
  failure: { step, failure },
});
const errno = (step: StepId, call: string, name: string) => failed(step, { kind: 'errno', call, errno: name });
const open = (name: string) => errno('open', 'open', name);

describe('why KVM cannot be used', () => {
  const cases: [string, CheckReport, KvmHost, RegExp, string | undefined][] = [
    [
      'the user is not in its group',
      open('EACCES'),
      host,
      /may not be opened by this user .*not in group kvm/,
      'sudo usermod --append --groups kvm ann   # then log in again',
    ],
    [
      'the user is in its group since after this login',
      open('EACCES'),
      { ...host, group: { name: 'kvm', isNew: true } },
      /put into group kvm after this login/,
      'newgrp kvm   # or log in again',
    ],
    [
      'it belongs to root alone',
      open('EACCES'),
      withoutGroup,
      /owner and mode 0:0 600/,
      'sudo chgrp kvm /dev/kvm && sudo chmod 0660 /dev/kvm\nsudo usermod --append --groups kvm ann   # then log in again',
    ],
    ['the module is missing', open('ENOENT'), host, /module for this CPU is not loaded/, 'sudo modprobe kvm_intel'],
    [
      'the module of an AMD CPU is missing, but not the device',
      open('ENODEV'),
      { ...host, cpuFlags: 'svm', cpuVendor: 'amd' },
      /module is not loaded/,
      'sudo modprobe kvm_amd',
    ],
    [
      'nested virtualisation is off',
      open('ENOENT'),
      { ...host, cpuFlags: 'none', isGuest: true },
      /nested virtualisation off/,
      '# on the host of this virtual machine: sudo modprobe -r kvm_intel && sudo modprobe kvm_intel nested=1',
    ],
    ['the firmware has it off', open('ENOENT'), { ...host, cpuFlags: 'none' }, /firmware switched it off/, undefined],
    [
      'the device was not made',
      open('ENOENT'),
      { ...host, isRegistered: true },
      /although the kernel has KVM/,
      expect.stringMatching(/mknod --mode=0660 \/dev\/kvm c 10 232/) as string,
    ],
    [
      'a control group forbids it',
      open('EPERM'),
      host,
      /control group keeps it/,
      '# where the container is started: --device /dev/kvm',
    ],
    [
      'another hypervisor has the CPU',
      errno('create-vm', 'KVM_CREATE_VM', 'EBUSY'),
      { ...host, otherHypervisors: ['vboxdrv'] },
      /busy: another hypervisor holds the CPU \(loaded: vboxdrv\)/,
      'sudo modprobe -r vboxnetadp vboxnetflt vboxdrv   # after the virtual machines of VirtualBox have been stopped',
    ],
    ['it is something else', errno('api-version', 'KVM_GET_API_VERSION', 'ENOTTY'), host, /is not KVM/, undefined],
    [
      'there is no memory',
      errno('create-vm', 'KVM_CREATE_VM', 'ENOMEM'),
      host,
      /lacks room.*not enough memory/,
      undefined,
    ],
    [
      'a guest in a guest computes wrongly',
      failed('long-mode', { kind: 'answer', text: 'KVM_EXIT_SHUTDOWN' }),
      { ...host, isGuest: true },
      /does not run code as a CPU does; this host is a virtual machine/,
      undefined,
    ],
    ['a guest hangs', failed('real-mode', { kind: 'hang', limitMs: 2000 }), host, /did not return/, undefined],
  ];

  test.each(cases)('when %s', (_name, report, where, why, mend) => {
    const found = explain(report, where);
    expect(found?.why).toMatch(why);
    expect(found?.mend).toEqual(mend);
  });

  test('names the step and the errno', () => {
    expect(explain(errno('create-vm', 'KVM_CREATE_VM', 'EBUSY'), host)?.what).toBe(
      'make a virtual machine: KVM_CREATE_VM failed with EBUSY',
    );
    expect(explain(failed('real-mode', { kind: 'hang', limitMs: 2000 }), host)?.what).toBe(
      'run a guest in real mode: not over after 2000 ms, and ended',
    );
    expect(explain({ steps: [] }, host)).toBeUndefined();
  });
});

describe('tsv kvm-check', () => {
  const report: CheckReport = {
    steps: [
      {
        step: 'open',
        ms: 0.0214,
        detail: '/dev/kvm',
        calls: [{ name: 'open', result: 17, ms: 0.02, note: '/dev/kvm' }],
      },
      {
        step: 'api-version',
        ms: 12.34,
        detail: '',
        calls: [{ name: 'KVM_GET_API_VERSION', request: 0xae00, result: { errno: 'ENOTTY' }, ms: 0.011 }],
        failure: { kind: 'errno', call: 'KVM_GET_API_VERSION', errno: 'ENOTTY' },
      },
    ],
    failure: { step: 'api-version', failure: { kind: 'errno', call: 'KVM_GET_API_VERSION', errno: 'ENOTTY' } },
  };
  const rows = (verbose: boolean): string[] => renderKvmCheck(describeCheck(report, host), verbose, ascii).split('\n');

  test('shows each step with its time, the rest as not tried, and why', () => {
    const lines = rows(false);
    expect(lines[0]).toMatch(/^ +STEP +TIME +RESULT$/);
    expect(lines[1]).toMatch(/^\+ +open the device +0\.021 ms +\/dev\/kvm$/);
    expect(lines[2]).toMatch(/^x +version of the interface +12\.3 ms +KVM_GET_API_VERSION failed with ENOTTY$/);
    expect(lines.slice(3, 12).every((line) => /^- .* +not tried$/.test(line))).toBe(true);
    expect(lines.slice(12)).toEqual([
      '',
      'KVM cannot be used: version of the interface: KVM_GET_API_VERSION failed with ENOTTY',
      'the device is not KVM',
      '',
    ]);
  });

  test('shows each call with its number when it is to say more', () => {
    expect(rows(true)[2]).toMatch(/^ +open +0\.020 ms += 17 {2}\/dev\/kvm$/);
    expect(rows(true)[4]).toMatch(/^ +KVM_GET_API_VERSION \(0xae00\) +0\.011 ms += ENOTTY$/);
  });

  test('says so when the check itself could not be made', () => {
    const text = renderKvmCheck(describeCheck(failed('start', { kind: 'died', text: 'no room' }), host), false, ascii);
    expect(text).toMatch(/^x +a process for the check /m);
    expect(text).toContain('KVM could not be checked: a process for the check: its process ended (no room)');
  });
});
