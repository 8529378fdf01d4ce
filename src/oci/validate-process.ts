import { capabilityNames } from '../sys/capabilities.ts';
import type { OciProcess } from './spec.ts';
import type { Rule } from './validate.ts';
import { quote } from './validate-schema.ts';

/** What config.md, "Process", asks of a process beyond the types of its values. */
export const processRules: readonly Rule[] = [
  {
    reads: ['process.args'],
    check({ process }, { problem }) {
      if (process?.args.length === 0) problem(['process', 'args'], 'must not be empty');
    },
  },
  {
    // As strict as runc, which ends in the container's init with the same.
    reads: ['process.env'],
    check({ process }, { problem }) {
      for (const [index, entry] of (process?.env ?? []).entries()) {
        const end = entry.indexOf('=');
        // The value may be a secret.
        if (end < 0) problem(['process', 'env', index], "must have the form NAME=value, and has no '='");
        if (end === 0) problem(['process', 'env', index], "must have a name before the '='");
      }
    },
  },
  {
    reads: ['process.rlimits'],
    check({ process }, { problem }) {
      const seen = new Set<string>();
      for (const [index, { type, soft, hard }] of (process?.rlimits ?? []).entries()) {
        const path = ['process', 'rlimits', index];
        if (seen.has(type)) problem([...path, 'type'], `${type} is there twice`);
        seen.add(type);
        if (soft > hard) problem([...path, 'soft'], `must be at most the hard limit ${hard}, not ${soft}`);
      }
    },
  },
  {
    reads: ['process.capabilities'],
    check({ process }, { warning }) {
      const names = capabilitySets.flatMap((set) => process?.capabilities?.[set] ?? []);
      const unknown = [...new Set(names.filter((name) => !isKnown(name)))];
      if (unknown.length > 0)
        warning(['process', 'capabilities'], `not known, passed over: ${quote(unknown.join(', '))}`);
    },
  },
  {
    // sched_setattr(2)
    reads: ['process.scheduler'],
    check({ process }, { problem }) {
      const { policy, priority = 0, runtime = 0, deadline = 0, period = 0 } = process?.scheduler ?? {};
      const path = ['process', 'scheduler'];
      if (policy === undefined) return;
      if (priority !== 0 && policy !== 'SCHED_FIFO' && policy !== 'SCHED_RR')
        problem([...path, 'priority'], `is for SCHED_FIFO and SCHED_RR only, not for ${policy}`);
      if (policy === 'SCHED_DEADLINE') return;
      for (const [key, value] of Object.entries({ runtime, deadline, period }))
        if (value !== 0) problem([...path, key], `is for SCHED_DEADLINE only, not for ${policy}`);
    },
  },
];

const capabilitySets = ['bounding', 'effective', 'inheritable', 'permitted', 'ambient'] as const;
const isKnown = (name: string): boolean => (capabilityNames as readonly string[]).includes(name);

/** A process without the capabilities that do not exist; their warning comes from the rules. */
export function withKnownCapabilities(process: OciProcess): OciProcess {
  const { capabilities } = process;
  if (capabilities === undefined) return process;
  const known = capabilitySets.flatMap((set) => {
    const names = capabilities[set];
    return names === undefined ? [] : [[set, names.filter(isKnown)] as const];
  });
  return { ...process, capabilities: Object.fromEntries(known) };
}
