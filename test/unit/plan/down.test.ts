import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import {
  afterHalt,
  afterUp,
  alive,
  chain,
  container,
  died,
  everyMachine,
  holderDead,
  loadBalancer,
  nothing,
  onlyMade,
  printed,
  project,
  single,
  stopped,
  text,
} from './fixtures.ts';

const halt = (observation: Observation, targets: string[] = [], wanted?: Project) =>
  printed({ command: 'halt', wanted, observation, targets });
const destroy = (observation: Observation, targets: string[] = [], wanted?: Project) =>
  printed({ command: 'destroy', wanted, observation, targets });

describe('tsv halt and tsv destroy', () => {
  test('halt of everything: dependents first, the sandbox last, networks stay in the state', () => {
    expect(halt(afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop lb  (halt)
      [2] <- 1  machine.stop db  (halt)
      [3] <- 1  machine.stop web-3  (halt)
      [4] <- 1  machine.stop web-2  (halt)
      [5] <- 1  machine.stop web-1  (halt)
      [6] <- 2,3,4,5  sandbox.remove  (last machine)
    `);
  });

  test('halt of one machine leaves the sandbox to the others', () => {
    expect(halt(afterUp(loadBalancer()), ['web-1'])).toBe(text`
      [1]  machine.stop web-1  (halt)
    `);
  });

  test('halt of the last one that runs removes the sandbox', () => {
    expect(halt(afterUp(loadBalancer(), { ...everyMachine(loadBalancer(), stopped), db: alive }), ['db'])).toBe(text`
      [1]  machine.stop db  (halt)
      [2] <- 1  sandbox.remove  (last machine)
    `);
  });

  test('halt of a halted project: nothing to do', () => {
    expect(halt(afterHalt(loadBalancer()))).toBe(text`
      nothing to do
    `);
  });

  test('halt clears up after a machine that died', () => {
    expect(halt(afterUp(single, { db: died }))).toBe(text`
      [1]  machine.stop db  (ended unexpectedly)
      [2] <- 1  sandbox.remove  (last machine)
    `);
  });

  test('halt after the holder died stops what still runs', () => {
    expect(halt(holderDead(chain))).toBe(text`
      [1]  machine.stop app  (halt)
      [2] <- 1  machine.stop db  (halt)
      [3] <- 2  machine.stop queue  (halt)
      [4] <- 3  sandbox.remove  (last machine)
    `);
  });

  test('halt of a group', () => {
    expect(halt(afterUp(loadBalancer()), ['web'])).toBe(text`
      [1]  machine.stop web-3  (halt)
      [2]  machine.stop web-2  (halt)
      [3]  machine.stop web-1  (halt)
    `);
  });

  test('halt without a state: nothing to do', () => {
    expect(halt(nothing)).toBe(text`
      nothing to do
    `);
  });

  test('destroy of everything ends with networks and sandbox', () => {
    expect(destroy(afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop lb  (destroy)
      [2] <- 1  machine.stop db  (destroy)
      [3] <- 1  machine.stop web-3  (destroy)
      [4] <- 1  machine.stop web-2  (destroy)
      [5] <- 1  machine.stop web-1  (destroy)
      [6] <- 1  machine.destroy lb  (destroy)
      [7] <- 2  machine.destroy db  (destroy)
      [8] <- 3  machine.destroy web-3  (destroy)
      [9] <- 4  machine.destroy web-2  (destroy)
      [10] <- 5  machine.destroy web-1  (destroy)
      [11] <- 6,7,8,9,10  network.remove default  (destroy)
      [12] <- 6,7,8,9,10  network.remove backend  (destroy)
      [13] <- 11,12  sandbox.remove  (destroy)
    `);
  });

  test('destroy of one: the others run on', () => {
    expect(destroy(afterUp(loadBalancer()), ['web-2'])).toBe(text`
      [1]  machine.stop web-2  (destroy)
      [2] <- 1  machine.destroy web-2  (destroy)
    `);
  });

  test('destroy of the only machine that runs removes the sandbox but not the networks of the others', () => {
    expect(destroy(afterUp(loadBalancer(), { ...everyMachine(loadBalancer(), stopped), db: alive }), ['db'])).toBe(text`
      [1]  machine.stop db  (destroy)
      [2] <- 1  machine.destroy db  (destroy)
      [3] <- 2  sandbox.remove  (last machine)
    `);
  });

  test('destroy of everything by name is a whole destroy', () => {
    expect(destroy(afterUp(chain), ['app', 'db', 'queue'])).toBe(text`
      [1]  machine.stop app  (destroy)
      [2] <- 1  machine.stop db  (destroy)
      [3] <- 2  machine.stop queue  (destroy)
      [4] <- 1  machine.destroy app  (destroy)
      [5] <- 2  machine.destroy db  (destroy)
      [6] <- 3  machine.destroy queue  (destroy)
      [7] <- 4,5,6  network.remove default  (destroy)
      [8] <- 7  sandbox.remove  (destroy)
    `);
  });

  test('destroy of a halted project stops nothing', () => {
    expect(destroy(afterHalt(chain))).toBe(text`
      [1]  machine.destroy app  (destroy)
      [2]  machine.destroy db  (destroy)
      [3]  machine.destroy queue  (destroy)
      [4] <- 1,2,3  network.remove default  (destroy)
    `);
  });

  test('destroy after the holder died', () => {
    expect(destroy(holderDead(chain))).toBe(text`
      [1]  machine.stop app  (destroy)
      [2] <- 1  machine.stop db  (destroy)
      [3] <- 2  machine.stop queue  (destroy)
      [4] <- 1  machine.destroy app  (destroy)
      [5] <- 2  machine.destroy db  (destroy)
      [6] <- 3  machine.destroy queue  (destroy)
      [7] <- 4,5,6  network.remove default  (destroy)
      [8] <- 7  sandbox.remove  (destroy)
    `);
  });

  test('destroy of a machine that is in the Tsfile but not made yet: nothing to do', () => {
    expect(destroy(afterUp(chain), ['cache'], project([...chain.machines, container('cache')]))).toBe(text`
      nothing to do
    `);
  });

  test('destroy of a project that failed before its first machine', () => {
    expect(destroy(onlyMade(afterUp(chain)))).toBe(text`
      [1]  network.remove default  (destroy)
      [2] <- 1  sandbox.remove  (destroy)
    `);
  });

  test('destroy without a state: nothing to do', () => {
    expect(destroy(nothing)).toBe(text`
      nothing to do
    `);
  });

  test('a machine that neither the state nor the Tsfile knows is refused', () => {
    expect(() => destroy(afterUp(chain), ['web'], chain)).toThrow(
      expect.objectContaining({ code: 'TSV_UNKNOWN_MACHINE' }),
    );
  });

  test('a state with a dependency cycle, left by two versions of a Tsfile, can still be destroyed', () => {
    const cycle = project([
      container('a', { dependsOn: [{ machine: 'b', condition: 'started' }] }),
      container('b', { dependsOn: [{ machine: 'a', condition: 'started' }] }),
    ]);
    expect(destroy(afterUp(cycle))).toBe(text`
      [1]  machine.stop a  (destroy)
      [2] <- 1  machine.stop b  (destroy)
      [3] <- 1  machine.destroy a  (destroy)
      [4] <- 2  machine.destroy b  (destroy)
      [5] <- 3,4  network.remove default  (destroy)
      [6] <- 5  sandbox.remove  (destroy)
    `);
  });
});
