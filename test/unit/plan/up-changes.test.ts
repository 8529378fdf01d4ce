import { describe, expect, test } from 'vitest';
import { type Isolation, isolationOf, type Machine, type Project } from '../../../src/model/project.ts';
import type { Observation } from '../../../src/model/state.ts';
import type { ProvisionMode } from '../../../src/plan/provisioning.ts';
import {
  afterUp,
  chain,
  container,
  edit,
  GiB,
  loadBalancer,
  printed,
  project,
  single,
  step,
  stopped,
  text,
  withNetworks,
  withoutWeb3,
  withRecord,
} from './fixtures.ts';

const renamed = {
  ...loadBalancer(),
  machines: loadBalancer().machines.map((machine) =>
    machine.name === 'lb' ? { ...machine, name: 'front', group: 'front' } : machine,
  ),
};
const up = (wanted: Project, observation: Observation, targets: string[] = [], provision: ProvisionMode = true) =>
  printed({ command: 'up', wanted, observation, targets, options: { provision } });

describe('tsv up after the Tsfile was edited', () => {
  test('a script that runs on change was edited: only that step runs', () => {
    expect(
      up(edit(loadBalancer(), { lb: { provision: [step('haproxy', 'on-change', 'f2')] } }), afterUp(loadBalancer())),
    ).toBe(text`
      [1]  machine.provision lb haproxy  (changed)
    `);
  });

  test('a script that runs once was edited: nothing to do', () => {
    expect(
      up(edit(loadBalancer(), { 'web-1': { provision: [step('nginx', 'once', 'f2')] } }), afterUp(loadBalancer())),
    ).toBe(text`
      nothing to do
    `);
  });

  test('a machine was added: the others stay as they are', () => {
    expect(
      up(
        {
          ...loadBalancer(),
          machines: [...loadBalancer().machines, container('cache', { networks: [{ network: 'backend' }] })],
        },
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  box.ensure debian-12 container  (needed by cache)
      [2] <- 1  machine.create cache  (new)
      [3] <- 2  machine.start cache  (new)
      [4] <- 3  machine.wait cache  (started)
    `);
  });

  test('a replica was removed: it is destroyed', () => {
    expect(up(withoutWeb3, afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop web-3  (no longer in the Tsfile)
      [2] <- 1  machine.destroy web-3  (no longer in the Tsfile)
    `);
  });

  test('a machine was removed that is not running: it is only destroyed', () => {
    expect(up(withoutWeb3, afterUp(loadBalancer(), { 'web-3': stopped }))).toBe(text`
      [1]  machine.destroy web-3  (no longer in the Tsfile)
    `);
  });

  test('a removed machine stops before what it depended on', () => {
    expect(up(project([container('other')]), afterUp(chain))).toBe(text`
      [1]  machine.stop app  (no longer in the Tsfile)
      [2] <- 1  machine.stop db  (no longer in the Tsfile)
      [3] <- 2  machine.stop queue  (no longer in the Tsfile)
      [4] <- 1  machine.destroy app  (no longer in the Tsfile)
      [5] <- 3  machine.destroy queue  (no longer in the Tsfile)
      [6] <- 2  machine.destroy db  (no longer in the Tsfile)
      [7]  network.ensure default  (no machine runs on it)
      [8]  box.ensure debian-12 container  (needed by other)
      [9] <- 7,8  machine.create other  (new)
      [10] <- 9  machine.start other  (new)
      [11] <- 10  machine.wait other  (started)
    `);
  });

  test('a machine was renamed: the new one gets the port only after the old one is gone', () => {
    expect(up(renamed, afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop lb  (no longer in the Tsfile)
      [2] <- 1  machine.destroy lb  (no longer in the Tsfile)
      [3]  network.ensure default  (no machine runs on it)
      [4]  box.ensure debian-12 container  (needed by front)
      [5]  machine.healthy web-1  (front needs it)
      [6]  machine.healthy web-2  (front needs it)
      [7]  machine.healthy web-3  (front needs it)
      [8] <- 2,3,4  machine.create front  (new)
      [9] <- 5,6,7,8  machine.start front  (new)
      [10] <- 9  machine.wait front  (started)
      [11] <- 10  machine.provision front haproxy  (not done)
    `);
  });

  test('the last machine was removed: networks and sandbox go, too', () => {
    expect(up(project([], []), afterUp(project([container('web')])))).toBe(text`
      [1]  machine.stop web  (no longer in the Tsfile)
      [2] <- 1  machine.destroy web  (no longer in the Tsfile)
      [3] <- 2  network.remove default  (no longer in the Tsfile)
      [4] <- 3  sandbox.remove  (last machine)
    `);
  });

  test('memory, cpus or pids of a container changed, up or down: it is adjusted and runs on', () => {
    expect(up(edit(loadBalancer(), { 'web-1': { memoryBytes: GiB, cpus: 2 } }), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.adjust web-1  (memory, cpus changed)
    `);
    expect(
      up(edit(loadBalancer(), { 'web-1': { memoryBytes: 1, cpus: 0.5, pids: 1 } }), afterUp(loadBalancer())),
    ).toBe(text`
      [1]  machine.adjust web-1  (memory, cpus, pids changed)
    `);
  });

  test('shares of CPU time and rates of io changed: adjusted; io given or taken away: restarted', () => {
    const io = { readBytesPerSecond: 1 };
    const before = edit(loadBalancer(), { 'web-1': { io }, 'web-2': { io } });
    const wanted = edit(before, {
      'web-1': { cpuShares: 2, io: { writesPerSecond: 5 } },
      'web-3': { cpuShares: 3, io },
    });
    expect(up(wanted, afterUp(before))).toBe(text`
      [1]  machine.stop web-3  (cpu_shares, io changed)
      [2]  machine.adjust web-1  (cpu_shares, io changed)
      [3] <- 1  machine.start web-3  (cpu_shares, io changed)
      [4] <- 3  machine.wait web-3  (started)
      [5] <- 4  machine.healthy web-3  (started)
    `);
    expect(up(before, afterUp(wanted))).toContain('machine.start web-3  (cpu_shares, io changed)');
  });

  test('memory and cpus of a virtual machine changed within what it was started with: it is adjusted', () => {
    const begun = withRecord(afterUp(single), 'db', { most: { memoryBytes: GiB, cpus: 4 } });
    expect(up(edit(single, { db: { memoryBytes: GiB, cpus: 4 } }), begun)).toBe(text`
      [1]  machine.adjust db  (memory, cpus changed)
    `);
    expect(up(edit(single, { db: { memoryBytes: GiB / 4 } }), begun)).toBe(text`
      [1]  machine.adjust db  (memory changed)
    `);
  });

  test.each([
    [{ memoryBytes: 2 * GiB }, 'memory changed: it was started with 1024M'],
    [{ cpus: 8 }, 'cpus changed: it was started with room for 4 CPUs'],
    [{ memoryBytes: GiB, cpus: 1 }, 'memory, cpus changed: a running system gives no CPU back'],
    [{ memoryBytes: GiB, hostname: 'other' }, 'memory, hostname changed'],
  ])('%j of a virtual machine is another start, and the plan says why', (change, cause) => {
    const before = edit(single, { db: { cpus: 2 } });
    const begun = withRecord(afterUp(before), 'db', { most: { memoryBytes: GiB, cpus: 4 } });
    expect(up(edit(before, { db: change }), begun)).toBe(
      [
        `[1]  machine.stop db  (${cause})`,
        '[2]  network.ensure default  (no machine runs on it)',
        `[3] <- 1,2  machine.start db  (${cause})`,
        '[4] <- 3  machine.wait db  (started)',
      ].join('\n'),
    );
  });

  test('memory or cpus changed of a virtual machine that can do neither as it runs: it is restarted', () => {
    expect(up(edit(single, { db: { memoryBytes: GiB, cpus: 2 } }), afterUp(single))).toBe(text`
      [1]  machine.stop db  (memory, cpus changed)
      [2]  network.ensure default  (no machine runs on it)
      [3] <- 1,2  machine.start db  (memory, cpus changed)
      [4] <- 3  machine.wait db  (started)
    `);
  });

  test('steps of a container come after its new limits; its forwards and those who start beside it wait for nothing', () => {
    const wanted = edit(loadBalancer(), {
      lb: {
        memoryBytes: GiB,
        forwards: [{ hostAddress: '127.0.0.1', hostPort: 9090, guestPort: 80 }],
        provision: [step('haproxy', 'on-change', 'f2'), step('more')],
      },
      'web-1': { memoryBytes: GiB },
    });
    const late = container('late', {
      networks: [{ network: 'backend' }],
      dependsOn: [{ machine: 'web-1', condition: 'started' }],
    });
    expect(up({ ...wanted, machines: [...wanted.machines, late] }, afterUp(loadBalancer()))).toBe(text`
      [1]  box.ensure debian-12 container  (needed by late)
      [2]  machine.adjust web-1  (memory changed)
      [3]  machine.adjust lb  (memory changed)
      [4]  machine.wait lb  (forwards changed)
      [5] <- 3,4  machine.provision lb haproxy  (changed)
      [6] <- 5  machine.provision lb more  (not done)
      [7] <- 1  machine.create late  (new)
      [8] <- 7  machine.start late  (new)
      [9] <- 8  machine.wait late  (started)
    `);
  });

  test('memory of a container changed whose network changes, too: it is restarted for that', () => {
    const wanted = edit(project([container('web')], [{ name: 'default', mode: 'isolated' }]), {
      web: { memoryBytes: GiB },
    });
    expect(up(wanted, afterUp(project([container('web')])))).toBe(text`
      [1]  machine.stop web  (network default changed)
      [2] <- 1  network.ensure default  (mode changed)
      [3] <- 2  machine.start web  (network default changed)
      [4] <- 3  machine.wait web  (started)
    `);
  });

  test('pids, command, env, hostname and shares changed: one restart with all causes', () => {
    expect(
      up(
        edit(loadBalancer(), {
          'web-1': {
            pids: 5,
            command: ['nginx'],
            env: { A: 'b' },
            hostname: 'w',
            shares: [{ host: '/a', guest: '/b', readonly: true }],
          },
        }),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.stop web-1  (pids, hostname, command, env, shares changed)
      [2] <- 1  machine.start web-1  (pids, hostname, command, env, shares changed)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test("any option of a container's isolation changed: one restart with all causes", () => {
    const isolation: Isolation = {
      privileged: true,
      capabilities: { add: ['CAP_NET_ADMIN'], drop: [] },
      seccomp: 'unconfined',
      devices: [{ host: '/dev/fuse', container: '/dev/fuse', access: 'rw' }],
      sysctls: { 'net.core.somaxconn': '1' },
      tmpfs: [{ path: '/run' }],
      ulimits: [{ name: 'RLIMIT_CORE', soft: 0, hard: 'unlimited' }],
      shmBytes: 4096,
      readOnly: true,
      user: { user: 'www-data' },
      init: false,
      stopSignal: 3,
      workdir: '/srv',
    };
    expect(up(edit(loadBalancer(), { 'web-1': { isolation } }), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop web-1  (privileged, capabilities, seccomp, devices, sysctls, tmpfs, ulimits, shm_size, read_only, user, init, stop_signal, workdir changed)
      [2] <- 1  machine.start web-1  (privileged, capabilities, seccomp, devices, sysctls, tmpfs, ulimits, shm_size, read_only, user, init, stop_signal, workdir changed)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test('a seccomp profile was edited: the container is restarted', () => {
    const profile = (digest: string): Partial<Machine> => ({
      isolation: { ...isolationOf({}), seccomp: { path: '/shop/p.json', digest } },
    });
    const before = edit(loadBalancer(), { 'web-1': profile('1') });
    expect(up(edit(before, { 'web-1': profile('2') }), afterUp(before))).toBe(text`
      [1]  machine.stop web-1  (seccomp changed)
      [2] <- 1  machine.start web-1  (seccomp changed)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test('the init came or went: a cause of its own only while the command is the same', () => {
    const spec = (fields: Pick<Machine, 'command'>, init: boolean): Partial<Machine> => ({
      ...fields,
      isolation: { ...isolationOf(fields), init },
    });
    const before = edit(loadBalancer(), { 'web-1': spec({ command: ['nginx'] }, false) });
    const cause = (wanted: Partial<Machine>) => up(edit(before, { 'web-1': wanted }), afterUp(before)).split('\n')[0];
    expect(cause(spec({ command: ['nginx'] }, true))).toBe('[1]  machine.stop web-1  (init changed)');
    expect(cause(spec({ command: ['httpd'] }, true))).toBe('[1]  machine.stop web-1  (command changed)');
  });

  test('a record of an earlier version knows no isolation and the Tsfile says nothing: nothing to do', () => {
    expect(up(edit(loadBalancer(), { 'web-1': { isolation: isolationOf({}) } }), afterUp(loadBalancer()))).toBe(text`
      nothing to do
    `);
  });

  test('memory of a stopped machine changed: it is started, which is enough', () => {
    expect(
      up(edit(loadBalancer(), { 'web-1': { memoryBytes: GiB } }), afterUp(loadBalancer(), { 'web-1': stopped })),
    ).toBe(text`
      [1]  machine.start web-1  (not running)
      [2] <- 1  machine.wait web-1  (started)
      [3] <- 2  machine.healthy web-1  (started)
    `);
  });

  test('an attachment changed: the machine is restarted', () => {
    expect(
      up(
        edit(loadBalancer(), { 'web-1': { networks: [{ network: 'default' }, { network: 'backend' }] } }),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.stop web-1  (networks changed)
      [2] <- 1  machine.start web-1  (networks changed)
      [3] <- 2  machine.wait web-1  (started)
      [4] <- 3  machine.healthy web-1  (started)
    `);
  });

  test('a forward changed: the machine runs on', () => {
    expect(
      up(
        edit(loadBalancer(), { lb: { forwards: [{ hostAddress: '127.0.0.1', hostPort: 9090, guestPort: 80 }] } }),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.wait lb  (forwards changed)
    `);
  });

  test('time-outs, health check and dependencies changed: nothing to do', () => {
    expect(
      up(edit(loadBalancer(), { lb: { stopTimeoutMs: 1, bootTimeoutMs: 1, dependsOn: [] } }), afterUp(loadBalancer())),
    ).toBe(text`
      nothing to do
    `);
  });

  test('the kind changed: the machine is made anew, and provisioned anew', () => {
    expect(up(edit(loadBalancer(), { 'web-1': { kind: 'vm' } }), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop web-1  (kind changed)
      [2] <- 1  machine.destroy web-1  (kind changed)
      [3]  box.ensure debian-12 vm  (needed by web-1)
      [4] <- 2,3  machine.create web-1  (kind changed)
      [5] <- 4  machine.start web-1  (kind changed)
      [6] <- 5  machine.wait web-1  (started)
      [7] <- 6  machine.provision web-1 nginx  (not done)
      [8] <- 7  machine.healthy web-1  (started)
    `);
  });

  test('the box of a stopped machine changed: destroyed without a stop, made anew', () => {
    expect(
      up(edit(loadBalancer(), { 'web-1': { box: 'debian-13' } }), afterUp(loadBalancer(), { 'web-1': stopped })),
    ).toBe(text`
      [1]  machine.destroy web-1  (box changed)
      [2]  box.ensure debian-13 container  (needed by web-1)
      [3] <- 1,2  machine.create web-1  (box changed)
      [4] <- 3  machine.start web-1  (box changed)
      [5] <- 4  machine.wait web-1  (started)
      [6] <- 5  machine.provision web-1 nginx  (not done)
      [7] <- 6  machine.healthy web-1  (started)
    `);
  });

  test('a disk was removed: the machine is made anew', () => {
    expect(up(edit(loadBalancer(), { db: { disks: [] } }), afterUp(loadBalancer()))).toBe(text`
      [1]  machine.stop db  (disk data removed)
      [2] <- 1  machine.destroy db  (disk data removed)
      [3]  box.ensure debian-12 vm  (needed by db)
      [4] <- 2,3  machine.create db  (disk data removed)
      [5] <- 4  machine.start db  (disk data removed)
      [6] <- 5  machine.wait db  (started)
      [7] <- 6  machine.provision db packages  (not done)
      [8] <- 7  machine.provision db schema  (not done)
      [9] <- 8  machine.provision db seed  (not done)
    `);
  });

  test('a disk was shrunk: the machine is made anew', () => {
    expect(up(edit(single, { db: { disks: [{ name: 'data', sizeBytes: GiB }] } }), afterUp(single))).toBe(text`
      [1]  machine.stop db  (disk data shrunk)
      [2] <- 1  machine.destroy db  (disk data shrunk)
      [3]  network.ensure default  (no machine runs on it)
      [4]  box.ensure debian-12 vm  (needed by db)
      [5] <- 2,3,4  machine.create db  (disk data shrunk)
      [6] <- 5  machine.start db  (disk data shrunk)
      [7] <- 6  machine.wait db  (started)
      [8] <- 7  machine.provision db packages  (not done)
    `);
  });

  test('a disk was added and one grown: a restart is enough', () => {
    expect(
      up(
        edit(single, {
          db: {
            disks: [
              { name: 'data', sizeBytes: 3 * GiB },
              { name: 'log', sizeBytes: 1 },
            ],
          },
        }),
        afterUp(single),
      ),
    ).toBe(text`
      [1]  machine.stop db  (disks changed)
      [2]  network.ensure default  (no machine runs on it)
      [3] <- 1,2  machine.start db  (disks changed)
      [4] <- 3  machine.wait db  (started)
    `);
  });

  test("a network's subnet changed: its machines stop, the network changes, they start", () => {
    expect(
      up(
        withNetworks([
          { name: 'default', mode: 'nat' },
          { name: 'backend', mode: 'isolated', subnet: '10.78.0.0/24' },
        ]),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.stop lb  (network backend changed)
      [2] <- 1  machine.stop db  (network backend changed)
      [3] <- 1  machine.stop web-3  (network backend changed)
      [4] <- 1  machine.stop web-2  (network backend changed)
      [5] <- 1  machine.stop web-1  (network backend changed)
      [6]  network.ensure default  (no machine runs on it)
      [7] <- 2,3,4,5  network.ensure backend  (subnet changed)
      [8] <- 7  machine.start web-1  (network backend changed)
      [9] <- 8  machine.wait web-1  (started)
      [10] <- 9  machine.healthy web-1  (started)
      [11] <- 7  machine.start web-2  (network backend changed)
      [12] <- 11  machine.wait web-2  (started)
      [13] <- 12  machine.healthy web-2  (started)
      [14] <- 7  machine.start web-3  (network backend changed)
      [15] <- 14  machine.wait web-3  (started)
      [16] <- 15  machine.healthy web-3  (started)
      [17] <- 7  machine.start db  (network backend changed)
      [18] <- 17  machine.wait db  (started)
      [19] <- 6,10,13,16,18  machine.start lb  (network backend changed)
      [20] <- 19  machine.wait lb  (started)
    `);
  });

  test("a network's mode changed: only machines on it are restarted", () => {
    expect(
      up(
        withNetworks([
          { name: 'default', mode: 'isolated' },
          { name: 'backend', mode: 'isolated', subnet: '10.77.1.0/24' },
        ]),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.stop lb  (network default changed)
      [2] <- 1  network.ensure default  (mode changed)
      [3]  machine.healthy web-1  (lb needs it)
      [4]  machine.healthy web-2  (lb needs it)
      [5]  machine.healthy web-3  (lb needs it)
      [6] <- 2,3,4,5  machine.start lb  (network default changed)
      [7] <- 6  machine.wait lb  (started)
    `);
  });

  test('a subnet is no longer fixed: the one in use stays', () => {
    expect(
      up(
        withNetworks([
          { name: 'default', mode: 'nat' },
          { name: 'backend', mode: 'isolated' },
        ]),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      nothing to do
    `);
  });

  test('a network was removed: it goes after its machines have left it', () => {
    expect(
      up(
        edit(
          { ...loadBalancer(), networks: loadBalancer().networks.slice(1) },
          { lb: { networks: [{ network: 'backend', address: '10.77.1.2' }] } },
        ),
        afterUp(loadBalancer()),
      ),
    ).toBe(text`
      [1]  machine.stop lb  (networks changed)
      [2] <- 1  network.remove default  (no longer in the Tsfile)
      [3]  machine.healthy web-1  (lb needs it)
      [4]  machine.healthy web-2  (lb needs it)
      [5]  machine.healthy web-3  (lb needs it)
      [6] <- 1,3,4,5  machine.start lb  (networks changed)
      [7] <- 6  machine.wait lb  (started)
    `);
  });
});
