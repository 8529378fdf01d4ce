import { describe, expect, test } from 'vitest';
import { isCompleted } from '../../../src/model/ending.ts';
import type { Plan, PlanNode } from '../../../src/model/plan.ts';
import type { Machine, Project } from '../../../src/model/project.ts';
import { printPlan } from '../../../src/plan/print.ts';
import { reconcile } from '../../../src/plan/reconcile.ts';
import { container, project, step, vm } from './fixtures.ts';
import { random, seeds } from './random.ts';
import { World } from './simulate.ts';

type Random = ReturnType<typeof random>;

/** A Tsfile with up to six machines on up to two networks; two draws differ in every way that an edit can. */
function randomProject({ below, chance }: Random): Project {
  const networks = [
    { name: 'default', mode: chance(0.5) ? ('nat' as const) : ('isolated' as const) },
    { name: 'backend', mode: 'isolated' as const, ...(chance(0.5) ? { subnet: `10.77.${below(2)}.0/24` } : {}) },
  ];
  const names = ['a', 'b', 'c', 'd', 'e', 'f'].filter(() => chance(0.7));
  const shift = below(6);
  const oneshots = names.filter(() => chance(0.2));
  const conditionOn = (machine: string) => {
    if (oneshots.includes(machine)) return chance(0.5) ? ('completed' as const) : ('started' as const);
    return chance(0.5) ? ('healthy' as const) : ('started' as const);
  };
  const machines = names.map((name, index): Machine => {
    const make = chance(0.8) ? container : vm;
    const oneshot = oneshots.includes(name);
    const volumes = make === container ? [`v${below(3)}`].filter(() => chance(0.3)) : [];
    return make(name, {
      ...(volumes.length === 0
        ? {}
        : { volumes: volumes.map((volume) => ({ name: volume, guest: '/v', readonly: false })) }),
      box: chance(0.9) ? 'debian-12' : 'debian-13',
      memoryBytes: 1 + below(2),
      cpus: 1 + below(2),
      ...(make === container && chance(0.3) ? { io: { readsPerSecond: 1 + below(2) } } : {}),
      networks: chance(0.5) ? [{ network: 'backend' }] : [{ network: 'default' }, { network: 'backend' }],
      forwards: chance(0.7)
        ? []
        : [{ hostAddress: '127.0.0.1', hostPort: 8000 + ((index + shift) % 6), guestPort: 80 }],
      dependsOn: names
        .slice(0, index)
        .filter(() => chance(0.3))
        .map((machine) => ({ machine, condition: conditionOn(machine) })),
      provision: [step('one'), step('two', 'on-change', `f${below(2)}`), step('three', 'never')].filter(
        () => !oneshot && chance(0.6),
      ),
      ...(oneshot ? { oneshot } : {}),
      ...(!oneshot && chance(0.5)
        ? { healthcheck: { exec: ['true'], everyMs: 1, timeoutMs: 1, retries: 1, startPeriodMs: 0 } }
        : {}),
    });
  });
  const isUsed = (volume: string) => machines.some((m) => m.volumes?.some((used) => used.name === volume));
  return {
    ...project(
      machines,
      networks.filter(({ name }) => machines.some((m) => m.networks.some((n) => n.network === name))),
    ),
    volumes: ['v0', 'v1', 'v2'].filter(isUsed).map((name) => ({ name, keep: chance(0.5) })),
  };
}

/** A random order that the executor could take: any node whose dependencies are done. */
function* randomOrder(plan: Plan, { below }: Random): Generator<PlanNode> {
  const done = new Set<number>();
  while (done.size < plan.nodes.length) {
    const ready = plan.nodes.filter(({ id, after }) => !done.has(id) && after.every((other) => done.has(other)));
    const node = ready[below(ready.length)];
    if (node === undefined) throw new Error('no node is ready');
    yield node;
    done.add(node.id);
  }
}

describe('plans in a simulated world', () => {
  test('after any edits, kills and interruptions one whole up makes the world match the file, and the next finds nothing to do', () => {
    for (const seed of seeds(400)) {
      const dice = random(seed);
      let wanted = randomProject(dice);
      const world = new World(() => wanted);
      const log: string[] = [];
      const apply = (plan: Plan, until: number) => {
        log.push(printPlan(plan), `-- ${until} of ${plan.nodes.length}`);
        let left = until;
        for (const node of randomOrder(plan, dice)) {
          if (left-- <= 0) return;
          world.apply(node);
        }
      };
      try {
        for (let round = dice.below(4); round > 0; round--) {
          const command = dice.chance(0.8) ? 'up' : dice.chance(0.5) ? 'reload' : 'halt';
          const plan = reconcile({ command, wanted, observation: world.observe() });
          apply(plan, dice.chance(0.5) ? plan.nodes.length : dice.below(plan.nodes.length + 1));
          if (dice.chance(0.2)) world.killHolder();
          for (const name of world.machines.keys()) if (dice.chance(0.1)) world.killMachine(name);
          for (const name of world.machines.keys()) if (dice.chance(0.3)) world.end(name, dice.below(2));
          if (dice.chance(0.6)) wanted = randomProject(dice);
        }
        const plan = reconcile({ command: 'up', wanted, observation: world.observe() });
        apply(plan, plan.nodes.length);
        const observation = world.observe();
        expect(Object.keys(observation.machines).toSorted()).toEqual(
          wanted.machines.map(({ name }) => name).toSorted(),
        );
        for (const machine of wanted.machines) {
          const observed = observation.machines[machine.name] ?? { state: 'absent' };
          expect(observed.state === 'running' || isCompleted(machine, observed), machine.name).toBe(true);
        }
        expect(printPlan(reconcile({ command: 'up', wanted, observation }))).toBe('nothing to do');
      } catch (error) {
        throw new Error(`seed ${seed}:\n${log.join('\n')}`, { cause: error });
      }
    }
  });

  test('after any interruption a destroy leaves nothing, and the next finds nothing to do', () => {
    for (const seed of seeds(200)) {
      const dice = random(seed);
      const wanted = randomProject(dice);
      const world = new World(() => wanted);
      const run = (command: 'up' | 'halt' | 'destroy', share: number) => {
        const plan = reconcile({ command, wanted, observation: world.observe() });
        let left = Math.ceil(plan.nodes.length * share);
        for (const node of randomOrder(plan, dice)) if (left-- > 0) world.apply(node);
      };
      run('up', dice.chance(0.5) ? 1 : dice.below(100) / 100);
      if (dice.chance(0.3)) world.killHolder();
      if (dice.chance(0.3)) run('halt', dice.below(100) / 100);
      if (dice.chance(0.3)) run('destroy', dice.below(100) / 100);
      run('destroy', 1);
      const { state } = world.observe();
      expect({ seed, machines: state?.machines, networks: state?.networks, sandbox: state?.sandbox }).toEqual({
        seed,
        machines: {},
        networks: {},
        sandbox: undefined,
      });
      expect(reconcile({ command: 'destroy', wanted, observation: world.observe() }).nodes).toEqual([]);
    }
  });
});
