import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  chooseAddresses,
  machineContext,
  namedMachines,
  networkOf,
  newRecord,
  recordOf,
  Transports,
} from '../../../src/agent/machines.ts';
import type { Attachment, Machine } from '../../../src/model/project.ts';
import type { BoxRef, Transport } from '../../../src/model/provider.ts';
import type { State } from '../../../src/model/state.ts';
import { overlaps, parseSubnet } from '../../../src/net/addresses.ts';
import { random, seeds } from '../plan/random.ts';

const machine = (name: string, ...networks: Attachment[]): Machine => ({
  name,
  group: name,
  kind: 'container',
  box: 'debian-12',
  hostname: name,
  memoryBytes: 1,
  cpus: 1,
  pids: 1,
  env: {},
  networks,
  forwards: [],
  shares: [],
  disks: [],
  dependsOn: [],
  provision: [],
  bootTimeoutMs: 1,
  stopTimeoutMs: 1,
  accel: 'auto',
});
const empty: State = {
  version: 1,
  serial: 1,
  projectId: 'id',
  projectDir: '/p',
  projectName: 'shop',
  tsfileDigest: '',
  networks: {
    default: { spec: { name: 'default', mode: 'nat' }, subnet: '10.77.1.0/24', gateway: '10.77.1.1', bridge: 'br0' },
    backend: {
      spec: { name: 'backend', mode: 'isolated' },
      subnet: '10.77.2.0/29',
      gateway: '10.77.2.1',
      bridge: 'br1',
    },
  },
  machines: {},
};
const withMachine = (state: State, spec: Machine): State => ({
  ...state,
  machines: { ...state.machines, [spec.name]: newRecord(state, spec, 'sha256:0') },
});
const addresses = (state: State, name: string) => recordOf(state, name).addresses.map(({ address }) => address);

describe('the addresses of a machine', () => {
  test('are one per network, in the order of the Tsfile, fixed where that says so', () => {
    const chosen = chooseAddresses(
      empty,
      machine('web', { network: 'backend' }, { network: 'default', address: '10.77.1.99' }),
    );
    expect(chosen.map(({ network, address, device }) => [network, address, device])).toEqual([
      ['backend', '10.77.2.2', 'eth0'],
      ['default', '10.77.1.99', 'eth1'],
    ]);
    expect(new Set(chosen.map(({ mac }) => mac)).size).toBe(2);
  });

  test('stay the same when they are chosen again, whoever came and went meanwhile', () => {
    let state = ['a', 'b', 'c'].reduce(
      (before, name) => withMachine(before, machine(name, { network: 'default' })),
      empty,
    );
    expect(['a', 'b', 'c'].map((name) => addresses(state, name))).toEqual([
      ['10.77.1.2'],
      ['10.77.1.3'],
      ['10.77.1.4'],
    ]);
    const { a: _, ...rest } = state.machines;
    state = { ...state, machines: rest };
    const before = recordOf(state, 'c').addresses;
    expect(chooseAddresses(state, machine('c', { network: 'default' }))).toEqual(before);
    expect(addresses(withMachine(state, machine('d', { network: 'default' })), 'd'), 'the lowest that is free').toEqual(
      ['10.77.1.2'],
    );
  });

  test('change when the Tsfile fixes another one, or the network has another subnet now', () => {
    const state = withMachine(empty, machine('web', { network: 'default' }));
    expect(chooseAddresses(state, machine('web', { network: 'default', address: '10.77.1.50' }))[0]?.address).toBe(
      '10.77.1.50',
    );
    const { default: network } = state.networks;
    const moved = {
      ...state,
      networks: { ...state.networks, default: { ...networkOf(state, 'default'), subnet: '10.88.0.0/24' } },
    };
    expect(network?.subnet).toBe('10.77.1.0/24');
    expect(chooseAddresses(moved, machine('web', { network: 'default' }))[0]?.address).toBe('10.88.0.2');
  });

  test('end with an error that names the network that is full', () => {
    const names = ['a', 'b', 'c', 'd', 'e'];
    const full = names.reduce((state, name) => withMachine(state, machine(name, { network: 'backend' })), empty);
    expect(names.map((name) => addresses(full, name)[0])).toEqual([
      '10.77.2.2',
      '10.77.2.3',
      '10.77.2.4',
      '10.77.2.5',
      '10.77.2.6',
    ]);
    expect(() => chooseAddresses(full, machine('f', { network: 'backend' }))).toThrow(
      'no free address in 10.77.2.0/29',
    );
    expect(() => chooseAddresses(empty, machine('f', { network: 'gone' }))).toThrow('network gone');
  });

  test('are never given twice, in whatever order machines come, go and change', () => {
    for (const seed of seeds(60)) {
      const { below, chance } = random(seed);
      let state = empty;
      for (let step = 0; step < 30; step++) {
        const name = `m${below(8)}`;
        const { [name]: existing, ...others } = state.machines;
        if (existing !== undefined && chance(0.4)) state = { ...state, machines: others };
        else {
          const spec = machine(
            name,
            { network: 'default' },
            ...(chance(0.3) && Object.keys(others).length < 4 ? [{ network: 'backend' }] : []),
          );
          const record = existing ?? newRecord(state, spec, '');
          state = {
            ...state,
            machines: { ...state.machines, [name]: { ...record, spec, addresses: chooseAddresses(state, spec) } },
          };
        }
        const all = Object.values(state.machines).flatMap((record) => record.addresses);
        expect(new Set(all.map(({ address }) => address)).size, `seed ${seed}, step ${step}`).toBe(all.length);
        expect(new Set(all.map(({ mac }) => mac)).size).toBe(all.length);
        for (const { network, address } of all)
          expect(overlaps(parseSubnet(`${address}/32`), parseSubnet(networkOf(state, network).subnet))).toBe(true);
      }
    }
  });
});

describe('what a provider is told of a machine', () => {
  const folder = () => {
    const made = mkdtempSync(join(tmpdir(), 'machines-'));
    onTestFinished(() => rmSync(made, { recursive: true, force: true }));
    return made;
  };

  test('comes from the state alone; its folders are made, for this user only', () => {
    const dir = folder();
    const state = withMachine(empty, machine('web', { network: 'backend' }));
    const context = machineContext(state, 'web', {
      machineDir: (name) => join(dir, 'm', name),
      runDir: (name) => join(dir, 'r', name),
      volumeDir: (name) => join(dir, 'v', name),
      box: () => ({ name: 'b', digest: 'd', user: 'tsv' }),
    });
    expect(context).toMatchObject({
      projectId: 'id',
      projectName: 'shop',
      process: undefined,
      memory: {},
      box: { name: 'b' },
    });
    expect(context.networks.backend).toEqual({ bridge: 'br1', gateway: '10.77.2.1', prefix: 29, mode: 'isolated' });
    for (const path of [context.dir, context.runDir]) expect(statSync(path).mode & 0o777).toBe(0o700);
  });

  test('asks for the box only when it is used: what has lost its box can still be destroyed', () => {
    const dir = folder();
    const box = (): BoxRef => {
      throw new Error('the box is gone');
    };
    const context = machineContext(withMachine(empty, machine('web')), 'web', {
      machineDir: () => dir,
      runDir: () => dir,
      volumeDir: () => dir,
      box,
    });
    expect(context.machine.name).toBe('web');
    expect(() => context.box).toThrow('the box is gone');
  });

  test('does not exist for a machine that is not in the state; nothing is made', () => {
    const dir = join(folder(), 'new');
    expect(() =>
      machineContext(empty, 'web', {
        machineDir: () => dir,
        runDir: () => dir,
        volumeDir: () => dir,
        box: () => expect.fail(),
      }),
    ).toThrow(expect.objectContaining({ code: 'TSV_NOT_RUNNING', hint: 'tsv up web' }));
    expect(existsSync(dir)).toBe(false);
  });

  test('for the name server is every machine with its addresses', () => {
    const state = withMachine(withMachine(empty, machine('web', { network: 'default' })), machine('lonely'));
    expect(namedMachines(state)).toEqual([
      { name: 'web', group: 'web', hostname: 'web', addresses: recordOf(state, 'web').addresses },
      { name: 'lonely', group: 'lonely', hostname: 'lonely', addresses: [] },
    ]);
  });
});

describe('ways into machines', () => {
  const way = () => {
    let end: () => void = () => {};
    const closed = new Promise<void>((resolve) => {
      end = resolve;
    });
    let closes = 0;
    const transport = { closed, close: () => closes++ } as unknown as Transport;
    return { transport, end, closes: () => closes };
  };

  test('are opened once and shared, also while they open', async () => {
    const transports = new Transports();
    const { transport } = way();
    let opened = 0;
    const open = async () => {
      opened++;
      return transport;
    };
    expect(await Promise.all([transports.get('web', open), transports.get('web', open)])).toEqual([
      transport,
      transport,
    ]);
    expect(await transports.get('web', open)).toBe(transport);
    expect(opened).toBe(1);
    await transports.get('db', open);
    expect(opened).toBe(2);
  });

  test('are opened anew when the last one could not be opened, or is gone', async () => {
    const transports = new Transports();
    const [first, second] = [way(), way()];
    await expect(transports.get('web', () => Promise.reject(new Error('not yet')))).rejects.toThrow('not yet');
    expect(await transports.get('web', async () => first.transport)).toBe(first.transport);
    first.end();
    await new Promise(setImmediate);
    expect(await transports.get('web', async () => second.transport)).toBe(second.transport);
  });

  test('are closed when they are dropped; one that is only opening, as soon as it is open', async () => {
    const transports = new Transports();
    const [open, opening] = [way(), way()];
    await transports.get('web', async () => open.transport);
    let arrive: (transport: Transport) => void = () => {};
    void transports.get('db', () => new Promise((resolve) => (arrive = resolve)));
    const dropped = transports.dropAll();
    arrive(opening.transport);
    await dropped;
    expect([open.closes(), opening.closes()]).toEqual([1, 1]);
    await transports.drop('nobody');
  });

  test('dropped, then opened again: the end of the old one does not forget the new one', async () => {
    const transports = new Transports();
    const [old, fresh] = [way(), way()];
    await transports.get('web', async () => old.transport);
    await transports.drop('web');
    await transports.get('web', async () => fresh.transport);
    old.end();
    await new Promise(setImmediate);
    expect(await transports.get('web', () => expect.fail('it is open'))).toBe(fresh.transport);
  });
});
