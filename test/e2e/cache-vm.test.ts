import { describe, expect, test } from 'vitest';
import type { Plan } from '../../src/model/plan.ts';
import { givesUsers } from '../../src/sys/own-user.ts';
import { sharedFixture } from '../support/fixture.ts';
import { nobodyOnTheHost, ownerOf, qemuOf, qemusOf } from '../support/process-owner.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
project: kept
machines:
  vm:
    box: debian-12
    memory: 272M
    cache: true
    provision:
      - { name: mark, shell: { inline: "cat /proc/sys/kernel/random/uuid >/root/mark; echo here >/run/mark" } }
      - { name: serve, shell: { inline: "systemd-run --quiet --unit sleeper sleep infinity; echo one >>/root/log" } }
`;
const patience = { timeoutMs: 240_000 };

describe('a virtual machine with cache', () => {
  const project = sharedFixture(
    'a virtual machine with cache',
    { 'Tsfile.yaml': tsfile },
    {
      prepare: async (made) => {
        await made.ok('box warm debian-12', patience);
        await made.ok('up', patience);
      },
    },
  );
  const inside = async (script: string): Promise<string[]> =>
    (await project().ok(['exec', 'vm', '--', 'sh', '-ec', script], patience)).stdout.trim().split('\n');
  const planned = async (): Promise<string[]> => {
    const { nodes } = JSON.parse((await project().tsv('plan --json')).stdout) as Plan;
    return nodes.flatMap(({ action }) =>
      action.do === 'machine.cached' || action.do === 'machine.provision' ? [`${action.do} ${action.step}`] : [],
    );
  };
  const boot = async () => (await project().ok('inspect vm --format .boot')).stdout.trim();
  const itself = 'cat /etc/machine-id /proc/sys/kernel/random/boot_id; cut -d" " -f2 /etc/ssh/ssh_host_ed25519_key.pub';
  const lasting = 'cat /root/mark /run/mark /root/log; systemctl is-active sleeper; systemctl show -P MainPID sleeper';

  test('comes back provisioned, with what its steps have started, and as another machine', async () => {
    const before = { itself: await inside(itself), lasting: await inside(lasting) };
    expect(before.lasting.slice(1, 4)).toEqual(['here', 'one', 'active']);
    await project().ok('destroy -f', patience);
    expect(await planned()).toEqual(['machine.cached mark', 'machine.cached serve']);
    await project().ok('up', patience);
    expect(await boot()).toBe('warm');
    expect(await inside(lasting)).toEqual(before.lasting);
    for (const [index, value] of (await inside(itself)).entries()) expect(value).not.toBe(before.itself[index]);
    // Not those of the machine whose memory it has: tsv's own connection, with a shell and a server for files.
    expect(await inside('ps -C sshd,sftp-server -o args= | sort')).toEqual([
      'sshd: /usr/sbin/sshd -D [listener] 0 of 10-100 startups',
      'sshd: root@notty',
    ]);
    expect((await project().ok('plan')).stdout).toMatch(/nothing to do/i);
  });

  test('runs a changed step upon the layer before it', async () => {
    const [mark = ''] = await inside('cat /root/mark');
    await project().ok('destroy -f', patience);
    project().edit((text) => text.replace('echo one >>', 'echo two >>'));
    expect(await planned()).toEqual(['machine.cached mark', 'machine.provision serve']);
    const up = project().start('up', patience);
    if (givesUsers()) {
      // S41: the QEMU that takes its memory over has no disk, and no more rights than its own.
      const keeper = await until('a layer in the making', () => qemusOf('driver=null-co').map(ownerOf)[0], patience);
      const { uid } = ownerOf(qemuOf(project().dir, 'vm'));
      const { seccomp: _, ...rights } = nobodyOnTheHost; // its filter comes a moment later
      expect(keeper).toMatchObject({ ...rights, uid, gid: uid });
    }
    expect(await up.result).toMatchObject({ code: 0 });
    expect(await inside('cat /root/mark /root/log')).toEqual([mark, 'two']);
  });

  test('boots from its layer where that was made with other memory, and keeps its files', async () => {
    const [mark = ''] = await inside('cat /root/mark');
    await project().ok('destroy -f', patience);
    project().edit((text) => text.replace('memory: 272M', 'memory: 304M'));
    expect((await project().ok('up', patience)).stderr).toMatch(
      /vm boots cold: the memory that was kept with its files/,
    );
    expect(await boot()).toBe('cold');
    expect(await inside('cat /root/mark /root/log; ls /run/mark 2>/dev/null || echo gone')).toEqual([
      mark,
      'two',
      'gone',
    ]);
  });
});
