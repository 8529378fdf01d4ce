import { describe, expect, test } from 'vitest';
import { endingOfQemu } from '../../../providers/kvm/ending.ts';
import { endingWords, hasSucceeded } from '../../../src/model/ending.ts';
import type { Ending } from '../../../src/model/state.ts';

const at = '2026-01-01T00:00:00.000Z';
const exited = (code: number): Ending => ({ at, why: 'exited', code });

describe('a VM', () => {
  test('whose system powered off ended with 0', () => {
    expect(endingOfQemu(exited(0), [], undefined)).toEqual(exited(0));
    expect(endingOfQemu(exited(0), ['qemu-system-x86_64: warning: something'], undefined)).toEqual(exited(0));
  });

  test('that was ended by a signal was killed, by whom QEMU says', () => {
    const line = 'qemu-system-x86_64: terminating on signal 15 from pid 4711 (bash)';
    const ending = endingOfQemu(exited(0), [line], undefined);
    expect(ending).toEqual({ at, why: 'killed', signal: 'TERM', detail: 'sent by process 4711 (bash)' });
    expect(endingWords(ending)).toBe('killed by SIGTERM: sent by process 4711 (bash)');
    expect(endingOfQemu(exited(0), ['qemu: terminating on signal 2'], 'before')).toEqual({
      at,
      why: 'killed',
      signal: 'INT',
    });
  });

  test('F19 whose kernel panicked is told so, with its words, and has not succeeded', () => {
    const ending = endingOfQemu(exited(0), [], 'VFS: Unable to mount root fs');
    expect(ending).toEqual({ at, why: 'panicked', detail: 'VFS: Unable to mount root fs' });
    expect(endingWords(ending)).toBe('its kernel panicked: VFS: Unable to mount root fs');
    expect(hasSucceeded(ending)).toBe(false);
  });

  test('whose QEMU failed ended with its last words', () => {
    expect(endingWords(endingOfQemu(exited(1), ['first', 'qemu: no space left'], 'before'))).toBe(
      'ended with 1: qemu: no space left',
    );
  });

  test('that was killed, or that nobody saw end, stays so', () => {
    const killed: Ending = { at, why: 'killed', signal: 'KILL' };
    expect(endingOfQemu(killed, ['anything'], 'before')).toEqual(killed);
    expect(endingWords(endingOfQemu({ at, why: 'lost' }, [], undefined))).toBe('ended, and nobody saw how');
  });
});
