import { describe, expect, test } from 'vitest';
import type { Observation } from '../../../src/model/state.ts';
import { afterHalt, afterUp, alive, everyMachine, loadBalancer, nothing, printed, stopped, text } from './fixtures.ts';

const restart = (observation: Observation, targets: string[] = []) =>
  printed({ command: 'restart', observation, targets });

describe('tsv restart', () => {
  test('of one machine stops and starts it and nothing else, and provisions nothing', () => {
    expect(restart(afterUp(loadBalancer()), ['web-1'])).toBe(text`
      [1]  machine.stop web-1  (restart)
      [2]  network.ensure backend  (restart)
      [3] <- 1,2  machine.start web-1  (restart)
      [4] <- 3  machine.wait web-1  (started)
      [5] <- 4  machine.healthy web-1  (started)
    `);
  });

  test('of a dependent and its dependency: stopped before it, started after it', () => {
    expect(restart(afterUp(loadBalancer()), ['db', 'lb'])).toBe(text`
      [1]  machine.stop lb  (restart)
      [2] <- 1  machine.stop db  (restart)
      [3]  network.ensure default  (restart)
      [4]  network.ensure backend  (restart)
      [5] <- 2,4  machine.start db  (restart)
      [6] <- 5  machine.wait db  (started)
      [7] <- 3,6  machine.start lb  (restart)
      [8] <- 7  machine.wait lb  (started)
    `);
  });

  test('starts what does not run, and no dependency that was not named', () => {
    const all = everyMachine(loadBalancer(), stopped);
    expect(restart(afterUp(loadBalancer(), { ...all, db: alive }), ['web-2'])).not.toMatch(/stop|db|lb|web-1/);
  });

  test('of a halted project sets up the sandbox first', () => {
    expect(restart(afterHalt(loadBalancer()))).toMatch(/^\[1\] {2}sandbox\.ensure/);
  });

  test('of nothing: nothing to do', () => {
    expect(restart(nothing)).toBe('nothing to do');
  });
});
