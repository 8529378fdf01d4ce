import { accessSync, constants } from 'node:fs';
import { explainOpen } from '../../src/kvm/explain.ts';
import type { Requirement } from '../../src/model/provider.ts';
import { findProgram } from '../../src/sys/children.ts';
import { run } from '../../src/sys/command.ts';
import type { Evidence, KvmFacts } from './accel.ts';

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
export async function probeHost(facts: KvmFacts, evidence: Promise<Evidence>): Promise<Requirement[]> {
  return Promise.all([
    programRequirement('qemu', 'QEMU runs the virtual machines', qemuProgram, 'qemu-system-x86'),
    programRequirement('qemu-img', 'qemu-img makes their disks', 'qemu-img', 'qemu-utils'),
    evidence.then((seen) => kvmRequirement(facts, seen)),
    tunRequirement(accessProblem('/dev/net/tun')),
  ]);
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
export function kvmRequirement(facts: KvmFacts, { check, trial }: Evidence): Requirement {
  const base = { id: 'kvm', description: '/dev/kvm makes virtual machines fast', required: false };
  if (facts.device !== 'open') {
    const { why, mend } = explainOpen(facts.device, facts);
    return { ...base, ok: false, detail: why, ...(mend === undefined ? {} : { mend }) };
  }
  if (check?.works === false) {
    const detail = `it opens, but cannot be used: ${check.reason}; tsv kvm-check shows more`;
    return { ...base, ok: false, detail, ...(check.mend === undefined ? {} : { mend: check.mend }) };
  }
  if (trial?.works === true) return { ...base, ok: true, detail: 'a trial guest ran on it' };
  if (trial !== undefined)
    return { ...base, ok: false, detail: `it opens, but no kernel boots on it: ${trial.reason}` };
  const seen = check === undefined ? 'it opens' : check.reason;
  const flags =
    facts.cpuFlags === 'none' ? 'but /proc/cpuinfo has neither vmx nor svm' : `the CPU has ${facts.cpuFlags}`;
  return {
    ...base,
    ok: facts.cpuFlags !== 'none',
    detail: `${seen}; ${flags}; the first start of a machine tries a kernel`,
  };
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
