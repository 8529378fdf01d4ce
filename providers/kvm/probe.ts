import { accessSync, constants } from 'node:fs';
import { userInfo } from 'node:os';
import type { Requirement } from '../../src/model/provider.ts';
import { findProgram } from '../../src/sys/children.ts';
import { run } from '../../src/sys/command.ts';
import { deviceProblem, type KvmFacts } from './accel.ts';
import type { TrialResult } from './trial.ts';

export const qemuProgram = 'qemu-system-x86_64';

/** Absolute path of a program, or undefined. */
export function lookUp(program: string): string | undefined {
  try {
    return findProgram(program);
  } catch {
    return undefined; // TSV_HOST_MISSING: here a finding, no failure
  }
}

/** What this host has of what a VM needs. Changes nothing. */
export async function probeHost(facts: KvmFacts, trial: TrialResult | undefined): Promise<Requirement[]> {
  return [
    await programRequirement('qemu', 'QEMU runs the virtual machines', qemuProgram, 'qemu-system-x86'),
    await programRequirement('qemu-img', 'qemu-img makes their disks', 'qemu-img', 'qemu-utils'),
    kvmRequirement(facts, trial, userInfo().username),
    tunRequirement(accessProblem('/dev/net/tun')),
  ];
}

async function programRequirement(
  id: string,
  description: string,
  program: string,
  debianPackage: string,
): Promise<Requirement> {
  const path = lookUp(program);
  const mend = `sudo apt-get install --yes --no-install-recommends ${debianPackage}`;
  if (path === undefined)
    return { id, description, ok: false, required: true, detail: `${program} is not in PATH`, mend };
  const result = await run([path, '--version']);
  const version = result.stdout.split('\n')[0]?.trim() ?? ''; // shown, never decided on
  const ok = result.code === 0;
  return {
    id,
    description,
    ok,
    required: true,
    detail: `${path}: ${ok ? version : result.stderr.trim()}`,
    ...(ok ? {} : { mend }),
  };
}

/** Pure. Not required: without it machines run in software, several times slower. */
export function kvmRequirement(facts: KvmFacts, trial: TrialResult | undefined, user: string): Requirement {
  const base = { id: 'kvm', description: '/dev/kvm makes virtual machines fast', required: false };
  const problem = deviceProblem(facts);
  if (problem === undefined) {
    if (trial?.works === true) return { ...base, ok: true, detail: 'a trial guest ran on it' };
    if (trial !== undefined)
      return { ...base, ok: false, detail: `it opens, but no guest runs on it: ${trial.reason}` };
    const evidence =
      facts.cpuFlags === 'none' ? 'but /proc/cpuinfo has neither vmx nor svm' : `the CPU has ${facts.cpuFlags}`;
    return {
      ...base,
      ok: facts.cpuFlags !== 'none',
      detail: `it opens; ${evidence}; the first start of a machine tries it`,
    };
  }
  return { ...base, ok: false, detail: problem, ...kvmMend(facts, user) };
}

function kvmMend(facts: KvmFacts, user: string): { mend?: string } {
  if (facts.device === 'EACCES' || facts.device === 'EPERM')
    return { mend: `sudo usermod --append --groups kvm ${user}   # then log in again` };
  if (facts.device !== 'ENOENT') return {};
  if (facts.cpuFlags === 'vmx') return { mend: 'sudo modprobe kvm_intel' };
  if (facts.cpuFlags === 'svm') return { mend: 'sudo modprobe kvm_amd' };
  return {}; // switched off in the firmware, or a VM without nested virtualisation: no command mends it
}

/** Pure. */
export function tunRequirement(problem: string | undefined): Requirement {
  const base = { id: 'tun', description: '/dev/net/tun connects virtual machines to their network', required: true };
  if (problem === undefined) return { ...base, ok: true, detail: 'it can be read and written' };
  const mend =
    problem === 'ENOENT'
      ? 'sudo modprobe tun && sudo chmod 0666 /dev/net/tun'
      : 'sudo chmod 0666 /dev/net/tun   # the mode that udev gives it';
  return {
    ...base,
    ok: false,
    detail: problem === 'ENOENT' ? 'there is no /dev/net/tun' : `it cannot be used (${problem})`,
    mend,
  };
}

function accessProblem(file: string): string | undefined {
  try {
    accessSync(file, constants.R_OK | constants.W_OK);
    return undefined;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown error';
  }
}
