import { describe, expect, test } from 'vitest';
import type { Action } from '../../../src/model/plan.ts';
import { PlanBuilder } from '../../../src/plan/builder.ts';
import { sameJson } from '../../../src/plan/changes.ts';
import { describeAction, printAction, printPlan } from '../../../src/plan/print.ts';
import { inDependencyOrder, resolveTargets, withDependencies } from '../../../src/plan/targets.ts';
import { UndoStack } from '../../../src/plan/undo.ts';
import { container, loadBalancer } from './fixtures.ts';

describe('PlanBuilder', () => {
  test('leaves out a dependency that another one implies, also over several steps', () => {
    const plan = new PlanBuilder();
    const sandbox = plan.add({ do: 'sandbox.ensure' }, 'new');
    const network = plan.add({ do: 'network.ensure', network: 'default' }, 'new', [sandbox]);
    const create = plan.add({ do: 'machine.create', machine: 'a' }, 'new', [network]);
    plan.add({ do: 'machine.start', machine: 'a' }, 'new', [network, undefined, create, sandbox, create]);
    expect(printPlan(plan.plan())).toBe(
      [
        '[1]  sandbox.ensure  (new)',
        '[2] <- 1  network.ensure default  (new)',
        '[3] <- 2  machine.create a  (new)',
        '[4] <- 3  machine.start a  (new)',
      ].join('\n'),
    );
  });
});

describe('an action in words', () => {
  const actions: readonly (readonly [Action, string, string])[] = [
    [{ do: 'sandbox.ensure' }, 'sandbox.ensure', 'set up the sandbox'],
    [{ do: 'sandbox.remove' }, 'sandbox.remove', 'remove the sandbox'],
    [{ do: 'network.ensure', network: 'n' }, 'network.ensure n', 'set up network n'],
    [{ do: 'network.remove', network: 'n' }, 'network.remove n', 'remove network n'],
    [{ do: 'box.ensure', box: 'b', kind: 'vm' }, 'box.ensure b vm', 'get box b (vm)'],
    [{ do: 'machine.create', machine: 'm' }, 'machine.create m', 'create m'],
    [{ do: 'machine.start', machine: 'm' }, 'machine.start m', 'start m'],
    [{ do: 'machine.adjust', machine: 'm' }, 'machine.adjust m', 'adjust m'],
    [{ do: 'machine.wait', machine: 'm' }, 'machine.wait m', 'wait for m'],
    [{ do: 'machine.provision', machine: 'm', step: 's' }, 'machine.provision m s', 'provision m: s'],
    [{ do: 'machine.healthy', machine: 'm' }, 'machine.healthy m', 'check health of m'],
    [{ do: 'machine.completed', machine: 'm' }, 'machine.completed m', 'wait until m has completed'],
    [{ do: 'machine.stop', machine: 'm' }, 'machine.stop m', 'stop m'],
    [{ do: 'machine.rename', machine: 'm', to: 'n' }, 'machine.rename m to n', 'rename m to n'],
    [{ do: 'machine.clone', machine: 'n', from: 'm' }, 'machine.clone n from m', 'copy m to n'],
    [{ do: 'machine.destroy', machine: 'm' }, 'machine.destroy m', 'destroy m'],
  ];
  test.each(actions)('%o', (action, plan, people) => {
    expect([printAction(action), describeAction(action)]).toEqual([plan, people]);
  });
});

describe('targets', () => {
  const { machines } = loadBalancer();

  test('keep the order of the file and count once', () => {
    expect(resolveTargets(['web-2', 'web', 'lb'], machines)).toEqual(['lb', 'web-1', 'web-2', 'web-3']);
  });

  test('bring all that they depend on', () => {
    expect([...withDependencies(['lb'], machines)].toSorted()).toEqual(['db', 'lb', 'web-1', 'web-2', 'web-3']);
    expect([...withDependencies(['db'], machines)]).toEqual(['db']);
  });

  test('are ordered dependencies first, and a cycle does not hang', () => {
    const on = (name: string, ...others: string[]) =>
      container(name, { dependsOn: others.map((machine) => ({ machine, condition: 'started' as const })) });
    const names = (all: readonly { name: string }[]) => all.map(({ name }) => name).join(' ');
    expect(names(inDependencyOrder([on('a', 'c'), on('b'), on('c', 'b')]))).toBe('b c a');
    expect(names(inDependencyOrder([on('a', 'b'), on('b', 'a')]))).toBe('b a');
  });
});

describe('sameJson', () => {
  test('looks at content: not at the order of keys, and at the order of lists', () => {
    expect(sameJson({ a: 1, b: [{ c: 2 }] }, { b: [{ c: 2 }], a: 1 })).toBe(true);
    expect(sameJson({ a: 1, b: undefined }, { a: 1 })).toBe(true);
    expect(sameJson({ a: 1 }, { b: 1 })).toBe(false);
    expect(sameJson([1, 2], [2, 1])).toBe(false);
    expect(sameJson([1], { 0: 1 })).toBe(false);
    expect(sameJson(null, {})).toBe(false);
    expect(sameJson(undefined, ['a'])).toBe(false);
  });
});

describe('UndoStack', () => {
  test('undoes each entry once, last first, and tells which failed', async () => {
    const log: string[] = [];
    const undo = new UndoStack();
    for (const name of ['one', 'two', 'three']) {
      undo.add(name, () => {
        log.push(name);
        if (name === 'two') throw new Error('stuck');
      });
    }
    expect(await undo.run()).toEqual([{ name: 'two', error: new Error('stuck') }]);
    expect(log).toEqual(['three', 'two', 'one']);
    expect(await undo.run()).toEqual([]);
    expect(log).toHaveLength(3);
  });

  test('undoes nothing after done', async () => {
    const log: string[] = [];
    const undo = new UndoStack();
    undo.add('one', () => {
      log.push('one');
    });
    undo.done();
    await undo.run();
    expect(log).toEqual([]);
  });
});
