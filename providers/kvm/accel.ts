import { mkdirSync, readFileSync, renameSync, statSync, writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { explain, explainOpen } from '../../src/kvm/explain.ts';
import { type KvmHost, readKvmHost } from '../../src/kvm/host.ts';
import type { CheckReport } from '../../src/kvm/protocol.ts';
import { TsvError } from '../../src/model/errors.ts';
import { type TrialResult, tryKvm } from './trial.ts';

export interface Accel {
  readonly accel: 'kvm' | 'tcg';
  readonly reason: string;
}

export interface KvmFacts extends KvmHost {
  /** QEMU's path, size and time of change: another QEMU, another trial. */
  readonly qemu: string;
}

export interface CheckResult extends TrialResult {
  /** The command that mends it. */
  readonly mend?: string;
}

/** What was seen of KVM at work. What was not tried is not there; a trial is made only where the check works. */
export interface Evidence {
  /** A few instructions, without QEMU: `src/kvm`. Costs milliseconds. */
  readonly check?: CheckResult;
  /** A kernel on QEMU. Costs up to some seconds. */
  readonly trial?: TrialResult;
}

/** Reads the host. Never throws. */
export function readKvmFacts(qemuBinary: string): KvmFacts {
  const stat = statSync(qemuBinary, { throwIfNoEntry: false });
  return {
    ...readKvmHost(),
    qemu: stat === undefined ? '' : `${qemuBinary} ${stat.size} ${stat.mtimeMs}`,
  };
}

/** Why /dev/kvm is of no use, in words; undefined when it can be opened. */
export const deviceProblem = (facts: KvmFacts): string | undefined =>
  facts.device === 'open' ? undefined : explainOpen(facts.device, facts).why;

/** What a report says of KVM; undefined when the check itself could not be made. Pure. */
export function checkResult(report: CheckReport, facts: KvmFacts): CheckResult | undefined {
  const found = explain(report, facts);
  if (found === undefined) return { works: true, reason: 'guests of a few instructions run on it' };
  const { step, failure } = report.failure ?? {};
  if (step === 'start' || failure?.kind === 'died') return undefined;
  return {
    works: false,
    reason: `${found.what} (${found.why})`,
    ...(failure?.kind === 'hang' ? { inconclusive: true } : {}),
    ...(found.isTransient ? { transient: true } : {}),
    ...(found.mend === undefined ? {} : { mend: found.mend }),
  };
}

/**
 * The decision, pure. Without evidence: nothing was run, because the device cannot be opened, or there is no kernel to run
 * and the check could not be made.
 * @throws TSV_VM_ACCEL when `kvm` is wanted and cannot be had.
 */
export function decideAccel(wanted: 'auto' | 'kvm' | 'tcg', facts: KvmFacts, evidence: Evidence): Accel {
  if (wanted === 'tcg') return { accel: 'tcg', reason: 'the Tsfile asks for it' };
  const problem = deviceProblem(facts) ?? guestProblem(facts, evidence);
  if (problem === undefined) return { accel: 'kvm', reason: `/dev/kvm works: ${whatWasSeen(facts, evidence)}` };
  if (wanted === 'kvm') {
    throw new TsvError('TSV_VM_ACCEL', 'the Tsfile asks for accel: kvm, which is not usable here', {
      details: [problem],
      hint: "write 'accel: auto' to run without it (slower), or see what tsv kvm-check says",
    });
  }
  return { accel: 'tcg', reason: problem };
}

function whatWasSeen({ cpuFlags }: KvmFacts, { check, trial }: Evidence): string {
  if (trial !== undefined) return 'a trial guest ran on it';
  return `the CPU has ${cpuFlags}${check === undefined ? '' : `, and ${check.reason}`}; no trial guest was run`;
}

function guestProblem(facts: KvmFacts, { check, trial }: Evidence): string | undefined {
  const flags = facts.cpuFlags === 'none' ? '; /proc/cpuinfo has neither vmx nor svm' : '';
  if (check?.works === false) return `/dev/kvm opens, but cannot be used: ${check.reason}${flags}`;
  if (trial !== undefined)
    return trial.works ? undefined : `/dev/kvm opens, but no kernel boots on it: ${trial.reason}${flags}`;
  return flags === '' ? undefined : `/dev/kvm opens, but nothing shows that a kernel boots on it${flags}`;
}

interface Remembered extends Evidence {
  readonly key: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** What only ran out of time may have met a busy host: it is asked again after this long. */
const slowLastsMs = 24 * 3600 * 1000;

const cacheKey = (facts: KvmFacts): string =>
  [facts.kernelRelease, facts.cpuModel, facts.qemu, facts.deviceMode].join(' | ');

/** What is remembered of a host that has not changed since. A cache that cannot be read is an empty one. */
export function remembered(cacheFile: string, facts: KvmFacts, now: number = Date.now()): Evidence {
  let entry: Partial<Remembered> | null;
  try {
    entry = JSON.parse(readFileSync(cacheFile, 'utf8')) as Partial<Remembered> | null;
  } catch {
    return {};
  }
  if (entry?.key !== cacheKey(facts)) return {};
  const isSlow = now - (entry.at ?? 0) >= slowLastsMs;
  const counts = (result: TrialResult | undefined): boolean =>
    typeof result?.works === 'boolean' &&
    typeof result.reason === 'string' &&
    !(result.inconclusive === true && isSlow);
  const { check, trial } = entry;
  return {
    ...(check !== undefined && counts(check) ? { check } : {}),
    ...(trial !== undefined && counts(trial) ? { trial } : {}),
  };
}

/**
 * Keeps what took its time to find out, and what works. A check that fails at once is made again the next time: whoever
 * mended something need not know of a cache. Never throws.
 */
export function remember(cacheFile: string, facts: KvmFacts, { check, trial }: Evidence): void {
  const kept: Evidence = {
    ...(check !== undefined && (check.works || check.inconclusive === true) ? { check } : {}),
    ...(trial !== undefined && trial.transient !== true ? { trial } : {}),
  };
  if (kept.check === undefined && kept.trial === undefined) return;
  const entry: Remembered = { key: cacheKey(facts), ...kept, at: Date.now() };
  const staging = `${cacheFile}.${process.pid}`;
  try {
    mkdirSync(dirname(cacheFile), { recursive: true, mode: 0o700 });
    writeFileSync(staging, `${JSON.stringify(entry)}\n`, { mode: 0o600 });
    renameSync(staging, cacheFile);
  } catch {
    // A full or read-only store costs the next start a trial, not the user this one.
  }
}

export interface ChooserOptions {
  readonly qemuBinary: string;
  readonly cacheFile: string;
  readonly check: () => Promise<CheckReport>;
}

/** Chooses by evidence; runs at most one check and one trial at a time, and none that an unchanged host has already answered. */
export function createAccelChooser({ qemuBinary, cacheFile, ...options }: ChooserOptions) {
  const check = shared(async (facts: KvmFacts) => checkResult(await options.check(), facts));
  const trial = shared((kernel: string) => tryKvm(qemuBinary, kernel));
  /** What is known, and where that is nothing, what the check says. */
  const look = async (facts: KvmFacts): Promise<Evidence> => {
    if (deviceProblem(facts) !== undefined) return {};
    const known = remembered(cacheFile, facts);
    if (known.trial !== undefined || known.check !== undefined) return known;
    const found = await check(facts);
    return found === undefined ? {} : { check: found };
  };
  return {
    async choose(wanted: 'auto' | 'kvm' | 'tcg', kernel: string | undefined): Promise<Accel> {
      const facts = readKvmFacts(qemuBinary);
      if (wanted === 'tcg' || deviceProblem(facts) !== undefined) return decideAccel(wanted, facts, {});
      let evidence = await look(facts);
      if (evidence.trial === undefined && evidence.check?.works !== false && kernel !== undefined)
        evidence = { ...evidence, trial: await trial(kernel) };
      remember(cacheFile, facts, evidence);
      return decideAccel(wanted, facts, evidence);
    },
    facts: () => readKvmFacts(qemuBinary),
    /** Keeps nothing. */
    look,
  };
}

/** Whoever asks while it runs gets the same answer. */
function shared<Question, Answer>(ask: (question: Question) => Promise<Answer>): typeof ask {
  let running: Promise<Answer> | undefined;
  return (question) => {
    running ??= ask(question).finally(() => {
      running = undefined;
    });
    return running;
  };
}

export type AccelChooser = ReturnType<typeof createAccelChooser>;
