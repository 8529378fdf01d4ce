import { describe, expect, test } from 'vitest';
import type { Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import { afterUp, edit, loadBalancer, printed, single, stopped, text } from './fixtures.ts';

const reload = (wanted: Project, observation: Observation, targets: string[] = []) =>
  printed({ command: 'reload', wanted, observation, targets });

describe('tsv reload', () => {
  test('everything: dependents stop first, dependencies start first', () => {
    expect(reload(loadBalancer(), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop lb  (reload)
      [2] <- 1  machine.stop db  (reload)
      [3] <- 1  machine.stop web-3  (reload)
      [4] <- 1  machine.stop web-2  (reload)
      [5] <- 1  machine.stop web-1  (reload)
      [6]  network.ensure default  (reload)
      [7]  network.ensure backend  (reload)
      [8] <- 5,7  machine.start web-1  (reload)
      [9] <- 8  machine.wait web-1  (started)
      [10] <- 9  machine.healthy web-1  (started)
      [11] <- 4,7  machine.start web-2  (reload)
      [12] <- 11  machine.wait web-2  (started)
      [13] <- 12  machine.healthy web-2  (started)
      [14] <- 3,7  machine.start web-3  (reload)
      [15] <- 14  machine.wait web-3  (started)
      [16] <- 15  machine.healthy web-3  (started)
      [17] <- 2,7  machine.start db  (reload)
      [18] <- 17  machine.wait db  (started)
      [19] <- 6,10,13,16,18  machine.start lb  (reload)
      [20] <- 19  machine.wait lb  (started)
    `);
  });

  test('one machine: the others run on', () => {
    expect(reload(loadBalancer(), afterUp(loadBalancer()), ['db'])).toBe(text`
      [1]  machine.stop db  (reload)
      [2]  network.ensure backend  (reload)
      [3] <- 1,2  machine.start db  (reload)
      [4] <- 3  machine.wait db  (started)
    `);
  });

  test('a machine whose memory changed is restarted once, a container too', () => {
    expect(reload(edit(loadBalancer(), { 'web-1': { memoryBytes: 1 } }), afterUp(loadBalancer()), ['web-1'])).toBe(text`
      [1]  machine.stop web-1  (reload)
      [2]  network.ensure backend  (reload)
      [3] <- 1,2  machine.start web-1  (reload)
      [4] <- 3  machine.wait web-1  (started)
      [5] <- 4  machine.healthy web-1  (started)
    `);
    expect(reload(edit(loadBalancer(), { db: { memoryBytes: 1 } }), afterUp(loadBalancer()), ['db'])).toBe(text`
      [1]  machine.stop db  (reload)
      [2]  network.ensure backend  (reload)
      [3] <- 1,2  machine.start db  (reload)
      [4] <- 3  machine.wait db  (started)
    `);
  });

  test('a stopped machine is started', () => {
    expect(reload(loadBalancer(), afterUp(loadBalancer(), { 'web-1': stopped }), ['web-1'])).toBe(text`
      [1]  network.ensure backend  (reload)
      [2] <- 1  machine.start web-1  (not running)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test('a changed box makes the machine anew', () => {
    expect(reload(edit(single, { db: { box: 'debian-13' } }), afterUp(single))).toBe(text`
      [1]  machine.stop db  (box changed)
      [2] <- 1  machine.destroy db  (box changed)
      [3]  network.ensure default  (reload)
      [4]  box.ensure debian-13 vm  (needed by db)
      [5] <- 2,3,4  machine.create db  (box changed)
      [6] <- 5  machine.start db  (box changed)
      [7] <- 6  machine.wait db  (started)
      [8] <- 7  machine.provision db packages  (not done)
    `);
  });
});
