import { closeSync, constants, mkdirSync, openSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { release } from 'node:os';
import { dirname } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import { type TrialResult, tryKvm } from './trial.ts';

export interface Accel {
  readonly accel: 'kvm' | 'tcg';
  readonly reason: string;
}

/** What can be known of KVM without running a guest. */
export interface KvmFacts {
  /** `open`: /dev/kvm can be opened for reading and writing. Else the errno name, e.g. `ENOENT`, `EACCES`, `EBUSY`. */
  readonly device: 'open' | (string & {});
  /** Owner and mode of /dev/kvm; empty when there is none. */
  readonly deviceMode: string;
  /** What /proc/cpuinfo says about hardware virtualisation. `unknown`: not an x86 CPU. */
  readonly cpuFlags: 'vmx' | 'svm' | 'none' | 'unknown';
  readonly cpuModel: string;
  readonly kernelRelease: string;
  /** QEMU's path, size and time of change: another QEMU, another trial. */
  readonly qemu: string;
}

/** Reads the host. Never throws. */
export function readKvmFacts(qemuBinary: string): KvmFacts {
  let cpuinfo = '';
  try {
    cpuinfo = readFileSync('/proc/cpuinfo', 'utf8');
  } catch {
    // no /proc: the flags stay unknown
  }
  const field = (name: string) => new RegExp(`^${name}\\s*: (.*)$`, 'm').exec(cpuinfo)?.[1] ?? '';
  const flags = field('flags').split(' ');
  return {
    device: openKvm(),
    deviceMode: describeFile('/dev/kvm', (s) => `${s.uid}:${s.gid} ${(s.mode & 0o7777).toString(8)}`),
    cpuFlags: flags.length < 2 ? 'unknown' : flags.includes('vmx') ? 'vmx' : flags.includes('svm') ? 'svm' : 'none',
    cpuModel: field('model name') || field('CPU part'),
    kernelRelease: release(),
    qemu: describeFile(qemuBinary, (s) => `${qemuBinary} ${s.size} ${s.mtimeMs}`),
  };
}

function openKvm(): string {
  try {
    closeSync(openSync('/dev/kvm', constants.O_RDWR));
    return 'open';
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unknown error';
  }
}

function describeFile(
  file: string,
  describe: (stat: { uid: number; gid: number; mode: number; size: number; mtimeMs: number }) => string,
): string {
  try {
    return describe(statSync(file));
  } catch {
    return '';
  }
}

/** Why /dev/kvm is of no use, in words; undefined when it can be opened. */
export function deviceProblem(facts: KvmFacts): string | undefined {
  switch (facts.device) {
    case 'open':
      return undefined;
    case 'ENOENT':
      return 'there is no /dev/kvm';
    case 'EACCES':
    case 'EPERM':
      return `/dev/kvm may not be opened by this user (owner and mode ${facts.deviceMode})`;
    case 'EBUSY':
      return '/dev/kvm is busy: another hypervisor holds it';
    default:
      return `/dev/kvm cannot be opened (${facts.device})`;
  }
}

/**
 * The decision, pure. `trial` is the outcome of a guest that was run; `undefined`: none was run, because the device
 * cannot be opened or there is no kernel to run.
 * @throws TSV_VM_ACCEL when `kvm` is wanted and cannot be had.
 */
export function decideAccel(wanted: 'auto' | 'kvm' | 'tcg', facts: KvmFacts, trial: TrialResult | undefined): Accel {
  if (wanted === 'tcg') return { accel: 'tcg', reason: 'the Tsfile asks for it' };
  const problem = deviceProblem(facts) ?? guestProblem(facts, trial);
  if (problem === undefined) {
    const evidence =
      trial === undefined ? `the CPU has ${facts.cpuFlags}; no trial guest was run` : 'a trial guest ran on it';
    return { accel: 'kvm', reason: `/dev/kvm works: ${evidence}` };
  }
  if (wanted === 'kvm') {
    throw new TsvError('TSV_VM_ACCEL', 'the Tsfile asks for accel: kvm, which is not usable here', {
      details: [problem],
      hint: "write 'accel: auto' to run without it (slower), or see what tsv doctor says about kvm",
    });
  }
  return { accel: 'tcg', reason: problem };
}

function guestProblem(facts: KvmFacts, trial: TrialResult | undefined): string | undefined {
  const flags = facts.cpuFlags === 'none' ? '; /proc/cpuinfo has neither vmx nor svm' : '';
  if (trial === undefined) return flags === '' ? undefined : `/dev/kvm opens, but nothing shows that it works${flags}`;
  return trial.works ? undefined : `/dev/kvm opens, but no guest runs on it: ${trial.reason}${flags}`;
}

interface CachedTrial {
  readonly key: string;
  readonly trial: TrialResult;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** A trial that only ran out of time may have met a busy host: it is asked again after this long. */
const slowTrialLastsMs = 24 * 3600 * 1000;

const cacheKey = (facts: KvmFacts): string =>
  [facts.kernelRelease, facts.cpuModel, facts.qemu, facts.deviceMode].join(' | ');

/** The remembered trial for a host that has not changed since. A cache that cannot be read is an empty one. */
export function cachedTrial(cacheFile: string, facts: KvmFacts, now: number = Date.now()): TrialResult | undefined {
  let entry: Partial<CachedTrial> | null;
  try {
    entry = JSON.parse(readFileSync(cacheFile, 'utf8')) as Partial<CachedTrial> | null;
  } catch {
    return undefined;
  }
  const trial = entry?.trial;
  if (entry?.key !== cacheKey(facts)) return undefined;
  if (typeof trial?.works !== 'boolean' || typeof trial.reason !== 'string') return undefined;
  const stale = trial.inconclusive === true && !(now - (entry.at ?? 0) < slowTrialLastsMs);
  return stale ? undefined : trial;
}

/** Keeps a trial's outcome. Never throws. */
export function rememberTrial(cacheFile: string, facts: KvmFacts, trial: TrialResult): void {
  const entry: CachedTrial = { key: cacheKey(facts), trial, at: Date.now() };
  const staging = `${cacheFile}.${process.pid}`;
  try {
    mkdirSync(dirname(cacheFile), { recursive: true, mode: 0o700 });
    writeFileSync(staging, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
    renameSync(staging, cacheFile);
  } catch {
    // A full or read-only store costs the next start a trial, not the user this one.
  }
}

/** Chooses by evidence; runs at most one trial guest at a time, and none that an unchanged host has already answered. */
export function createAccelChooser(options: { readonly qemuBinary: string; readonly cacheFile: string }) {
  let running: Promise<TrialResult> | undefined;
  return {
    async choose(wanted: 'auto' | 'kvm' | 'tcg', kernel: string | undefined): Promise<Accel> {
      if (wanted === 'tcg') return decideAccel(wanted, readKvmFacts(options.qemuBinary), undefined);
      const facts = readKvmFacts(options.qemuBinary);
      if (deviceProblem(facts) !== undefined || kernel === undefined) return decideAccel(wanted, facts, undefined);
      const known = cachedTrial(options.cacheFile, facts);
      if (known !== undefined) return decideAccel(wanted, facts, known);
      running ??= tryKvm(options.qemuBinary, kernel).finally(() => {
        running = undefined;
      });
      const trial = await running;
      if (!trial.transient) rememberTrial(options.cacheFile, facts, trial);
      return decideAccel(wanted, facts, trial);
    },
    facts: () => readKvmFacts(options.qemuBinary),
    known: (facts: KvmFacts) => cachedTrial(options.cacheFile, facts),
  };
}

export type AccelChooser = ReturnType<typeof createAccelChooser>;
