import type { OciDeviceRule } from '../oci/spec.ts';

/** r, w and m as bits, as the kernel's BPF_DEVCG_ACC_* have them (linux/bpf.h). */
export const access = { m: 1, r: 2, w: 4 } as const;
export const allAccess = 7;

/** One rule: what is absent matches anything. */
export interface DeviceRule {
  readonly allow: boolean;
  readonly type?: 'b' | 'c';
  readonly major?: number;
  readonly minor?: number;
  readonly access: number;
  /** Of our own list: left out where it cannot be expressed. */
  readonly standard?: true;
}

const standard = (type: 'b' | 'c', bits: number, major?: number, minor?: number): DeviceRule => ({
  allow: true,
  type,
  access: bits,
  standard: true,
  ...(major === undefined ? {} : { major }),
  ...(minor === undefined ? {} : { minor }),
});

/**
 * What every container may use, after its own rules as in runc: making any node, and null, zero, full, random, urandom,
 * tty, ptmx and pseudo-terminals.
 */
const standardRules: readonly DeviceRule[] = [
  standard('c', access.m),
  standard('b', access.m),
  ...[3, 5, 7, 8, 9].map((minor) => standard('c', allAccess, 1, minor)),
  standard('c', allAccess, 5, 0),
  standard('c', allAccess, 5, 2),
  standard('c', allAccess, 136),
];

/**
 * `linux.resources.devices` followed by the standard devices. A later rule stands above an earlier one, for each kind of
 * access by itself; what no rule allows is denied.
 */
export function deviceRules(rules: readonly OciDeviceRule[] = []): readonly DeviceRule[] {
  return [...rules.map(toRule), ...standardRules];
}

function toRule({ allow, type, major, minor, access: letters }: OciDeviceRule): DeviceRule {
  const bits = letters === undefined || letters === '' ? allAccess : accessBits(letters);
  return {
    allow,
    access: bits,
    ...(type === 'b' || type === 'c' ? { type } : {}),
    ...(isNumber(major) ? { major } : {}),
    ...(isNumber(minor) ? { minor } : {}),
  };
}

const isNumber = (value: number | undefined): value is number => value !== undefined && value !== -1;

function accessBits(letters: string): number {
  return [...letters].reduce((bits, letter) => bits | (access[letter as keyof typeof access] ?? 0), 0);
}

export function accessLetters(bits: number): string {
  return (['r', 'w', 'm'] as const).filter((letter) => (bits & access[letter]) !== 0).join('');
}
