import { describe, expect, test } from 'vitest';
import { usualCapabilities } from '../../../providers/namespace/config.ts';
import { capabilityMask, capabilityNames, capsetArguments } from '../../../src/sys/capabilities.ts';

describe('capabilities', () => {
  test('have the numbers of linux/capability.h', () => {
    const number = (name: string) => (capabilityNames as readonly string[]).indexOf(name);
    expect(
      [
        'CAP_CHOWN',
        'CAP_SETUID',
        'CAP_NET_ADMIN',
        'CAP_NET_RAW',
        'CAP_SYS_ADMIN',
        'CAP_MKNOD',
        'CAP_SETFCAP',
        'CAP_CHECKPOINT_RESTORE',
      ].map(number),
    ).toEqual([0, 7, 12, 13, 21, 27, 31, 40]);
    expect(new Set(capabilityNames).size).toBe(41);
  });

  test('make a mask of 64 bits', () => {
    expect(capabilityMask([])).toBe(0n);
    expect(capabilityMask(['CAP_CHOWN', 'CAP_SETFCAP', 'CAP_BPF'])).toBe(1n | (1n << 31n) | (1n << 39n));
    expect(capabilityMask(['CAP_CHOWN', 'CAP_CHOWN'])).toBe(1n);
    expect(() => capabilityMask(['CAP_FLY'])).toThrow('unknown capability CAP_FLY');
  });

  test('are laid out for capset(2): version 3, this process; the three sets in two halves', () => {
    const { header, data } = capsetArguments({
      effective: (5n << 32n) | 0x8000_0001n,
      permitted: (7n << 32n) | 2n,
      inheritable: 3n << 32n,
    });
    expect([header.readUInt32LE(0), header.readInt32LE(4)]).toEqual([0x20080522, 0]);
    expect(Array.from({ length: 6 }, (_, i) => data.readUInt32LE(i * 4))).toEqual([0x8000_0001, 2, 0, 5, 7, 3]);
  });

  test('that reach the host or its network are not among those of a container', () => {
    const dangerous = [
      'SYS_ADMIN',
      'SYS_MODULE',
      'SYS_RAWIO',
      'SYS_PTRACE',
      'SYS_BOOT',
      'SYS_TIME',
      'NET_ADMIN',
      'NET_RAW',
      'DAC_READ_SEARCH',
      'BPF',
      'PERFMON',
      'MAC_ADMIN',
      'MAC_OVERRIDE',
      'SYSLOG',
      'AUDIT_CONTROL',
      'LINUX_IMMUTABLE',
      'SYS_RESOURCE',
    ];
    expect(usualCapabilities.filter((name) => dangerous.includes(name.slice(4)))).toEqual([]);
  });
});
