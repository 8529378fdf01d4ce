import { closeSync, openSync } from 'node:fs';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  foreignNamespaces,
  joinNamespaces,
  namespacePlace,
  ownedNamespaces,
  planNamespaces,
  requireNamespaces,
} from '../../../src/oci/namespaces.ts';
import type { OciNamespace } from '../../../src/oci/spec.ts';
import { CLONE } from '../../../src/sys/flags.ts';
import { lines } from './program-requests.ts';

const planOf = (...namespaces: OciNamespace[]) => planNamespaces({ ociVersion: '1.2.0', linux: { namespaces } });

describe('the plan', () => {
  test('tells new ones from joined ones; those that need an order are apart', () => {
    const plan = planOf(
      { type: 'pid' },
      { type: 'user' },
      { type: 'mount' },
      { type: 'time' },
      { type: 'uts' },
      { type: 'network', path: '/n' },
    );
    expect(plan).toMatchObject({
      others: CLONE.NEWPID | CLONE.NEWUTS,
      newUser: true,
      newMount: true,
      newTime: true,
      user: true,
    });
    expect(plan.joined).toEqual([{ type: 'network', path: '/n' }]);
  });

  test('of nothing is nothing', () => {
    expect(planNamespaces({ ociVersion: '1.2.0' })).toEqual({
      others: 0,
      newUser: false,
      newMount: false,
      newTime: false,
      joined: [],
      user: false,
    });
  });

  test('a joined user namespace is one of the container too, and no new one', () => {
    expect(planOf({ type: 'user', path: '/u' })).toMatchObject({ newUser: false, user: true });
  });

  test('joins the mount namespace last, for paths mean something else then, whatever the order of the list', () => {
    const all = (['mount', 'user', 'time', 'cgroup', 'pid', 'network', 'uts', 'ipc'] as const).map((type) => ({
      type,
      path: `/${type}`,
    }));
    const order = planOf(...all).joined.map(({ type }) => type);
    expect([order[0], order.at(-1)]).toEqual(['user', 'mount']);
    expect(order).toHaveLength(8);
  });

  test('joins before or after the user namespace, each once', () => {
    const plan = planOf({ type: 'user', path: '/u' }, { type: 'network', path: '/n' }, { type: 'ipc', path: '/i' });
    const joined = (when: 'before' | 'after') => lines(joinNamespaces(plan, new Set(['network'] as const), when));
    expect(joined('before')).toEqual(['setns fd:ns-ipc CLONE_NEWIPC # join the ipc namespace']);
    expect(joined('after')).toEqual([
      'setns fd:ns-user CLONE_NEWUSER # join the user namespace',
      'setns fd:ns-network CLONE_NEWNET # join the network namespace',
    ]);
    expect(namespacePlace('cgroup')).toBe('ns-cgroup');
  });
});

describe('namespaces of this host', () => {
  const open = (name: string): number => {
    const fd = openSync(`/proc/self/ns/${name}`, 'r');
    onTestFinished(() => closeSync(fd));
    return fd;
  };

  test('of this very process are not foreign', () => {
    expect(foreignNamespaces(process.pid)).toBe(0);
  });

  test('without a joined user namespace, nothing belongs to it', () => {
    expect(ownedNamespaces(undefined, [['network', open('net')]])).toEqual(new Set());
  });

  test('the user namespace never belongs to itself', () => {
    const user = open('user');
    expect(ownedNamespaces(user, [['user', user]]).has('user')).toBe(false);
  });

  test('that every kernel has can be asked for; others are refused with their place', () => {
    expect(() =>
      requireNamespaces({ ociVersion: '1.2.0', linux: { namespaces: [{ type: 'mount' }, { type: 'pid' }] } }),
    ).not.toThrow();
    const odd = [{ type: 'mount' }, { type: 'odd' }] as unknown as OciNamespace[];
    expect(() => requireNamespaces({ ociVersion: '1.2.0', linux: { namespaces: odd } })).toThrow(
      expect.objectContaining({ code: 'TSV_UNSUPPORTED', details: ['linux.namespaces[1].type: odd'] }),
    );
  });
});
