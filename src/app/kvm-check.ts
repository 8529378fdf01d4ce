import { type Explanation, explain, outcome } from '../kvm/explain.ts';
import { type KvmHost, readKvmHost } from '../kvm/host.ts';
import { type Call, type CheckReport, type StepId, type StepResult, stepIds, steps } from '../kvm/protocol.ts';
import { runCheck } from '../kvm/run.ts';
import { builtFile } from './place.ts';

export const runKvmCheck = (): Promise<CheckReport> => runCheck({ program: builtFile('parts/kvm-check.js') });

export interface KvmCheck {
  readonly usable: boolean;
  /** Of all steps together. */
  readonly ms: number;
  /** All there are, in their order. */
  readonly steps: readonly KvmCheckStep[];
  readonly failure?: Explanation & { readonly step: StepId; readonly errno?: string };
  /** What the explanation goes by. */
  readonly host: KvmHost;
}

export interface KvmCheckStep {
  readonly step: StepId;
  /** In words. */
  readonly what: string;
  readonly result: 'ok' | 'failed' | 'not tried';
  readonly ms?: number;
  readonly detail: string;
  readonly calls: readonly KvmCall[];
}
export type KvmCall = Call;

/** Uses /dev/kvm as QEMU does, up to guests that run. Needs no project and keeps nothing. */
export async function checkKvm(): Promise<KvmCheck> {
  const host = readKvmHost();
  return describeCheck(await runKvmCheck(), host);
}

/** Pure. */
export function describeCheck(report: CheckReport, host: KvmHost): KvmCheck {
  const begun = new Map(report.steps.map((result) => [result.step, result]));
  const ids = stepIds.filter((id) => id !== 'start' || begun.has(id)); // told of only when it fails
  const found = explain(report, host);
  const { step, failure } = report.failure ?? {};
  return {
    usable: report.failure === undefined,
    ms: report.steps.reduce((sum, { ms }) => sum + ms, 0),
    steps: ids.map((id) => describeStep(id, begun.get(id))),
    ...(step === undefined || found === undefined
      ? {}
      : { failure: { step, ...(failure?.kind === 'errno' ? { errno: failure.errno } : {}), ...found } }),
    host,
  };
}

function describeStep(step: StepId, result: StepResult | undefined): KvmCheckStep {
  const what = steps[step];
  if (result === undefined) return { step, what, result: 'not tried', detail: '', calls: [] };
  const { ms, detail, calls, failure } = result;
  if (failure === undefined) return { step, what, result: 'ok', ms, detail, calls };
  return { step, what, result: 'failed', ms, detail: outcome(failure), calls };
}
