import {
  closeSync,
  fstatSync,
  futimesSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { connectGuest } from '../../providers/kvm/guest.ts';
import { existingRunDir, storeDir } from '../../src/state/paths.ts';
import { imageFiles, imagesFolder } from '../../src/store/image/layout.ts';
import { templateFiles, templatesFolder } from '../../src/store/template/layout.ts';
import { listTemplates } from '../../src/store/template/template.ts';
import { tryLockExclusive } from '../../src/sys/flock.ts';
import { givesUsers } from '../../src/sys/own-user.ts';
import { tsvProgram } from '../support/cli.ts';
import { fixture, sharedFixture } from '../support/fixture.ts';
import { nobodyOnTheHost, ownerOf, qemuOf, qemusOf } from '../support/process-owner.ts';
import { until } from '../support/until.ts';

const store = storeDir(process.env);
const mebibyte = 2 ** 20;
const memory = 288;
const tsfile = `
version: 1
project: twins
defaults: { memory: ${memory}M }
machines:
  first:
    box: debian-12
    provision:
      - { name: mark, shell: { inline: "hostname >/root/mark" } }
  second: { box: debian-12 }
`;
const booting = { timeoutMs: 280_000 };

/** What makes a machine itself, as it says. */
const whoAmI = `
hostname
cat /etc/machine-id /proc/sys/kernel/random/boot_id /sys/class/dmi/id/product_uuid /sys/class/net/eth0/address
cat /etc/ssh/ssh_host_ed25519_key.pub /root/.ssh/authorized_keys | cut -d' ' -f2
ip -4 -o address show dev eth0 | awk '{ print $4 }'
head -c 32 /dev/urandom | od -An -v -tx1 | tr -d ' \\n'; echo
cat /proc/sys/kernel/random/uuid
`;

const unfinished = (): string[] => {
  try {
    return readdirSync(templatesFolder(store)).filter((name) => name.startsWith('.making-'));
  } catch {
    return [];
  }
};
const templatesWith = (mebibytes: number) =>
  listTemplates(store).filter(({ memoryBytes }) => memoryBytes === mebibytes * mebibyte);

describe('virtual machines that start warm', () => {
  const project = sharedFixture(
    'virtual machines that start warm',
    { 'Tsfile.yaml': tsfile },
    {
      prepare: async (made) => {
        await made.ok('box warm debian-12', booting);
        await made.ok('up', booting);
      },
    },
  );
  const boots = async () => {
    const all = JSON.parse((await project().ok('inspect first second')).stdout) as { name: string; boot?: string }[];
    return all.map(({ boot }) => boot);
  };
  const inside = async (machine: string, script: string): Promise<string[]> =>
    (await project().ok(['exec', machine, '--', 'sh', '-ec', script], booting)).stdout.trim().split('\n');

  const guestOfSecond = () =>
    connectGuest(join(existingRunDir(project().dir, process.env) ?? '', 'second', 'guest.sock'));

  test('went on from their template, are provisioned, and are on their network', async () => {
    expect(await boots()).toEqual(['warm', 'warm']);
    expect(await inside('first', 'cat /root/mark')).toEqual(['first']);
    await inside('second', 'ping -c 1 -w 20 first >/dev/null');
    const [failed = ''] = await inside('first', 'systemctl --failed --no-legend | wc -l');
    expect(failed).toBe('0');
  });

  test('S46 differ in everything that makes a machine itself', async () => {
    const [first, second] = [await inside('first', whoAmI), await inside('second', whoAmI)];
    expect(first).toHaveLength(10);
    for (const [index, value] of first.entries()) {
      expect(value, `line ${index}`).not.toBe('');
      expect(second[index], `line ${index}`).not.toBe(value);
    }
    expect([first[0], second[0]]).toEqual(['first', 'second']);
  });

  test('S41 run as users of their own where root runs them, who cannot change what they share', async (context) => {
    if (!givesUsers()) return context.skip('only root can give a machine a user of its own');
    const [first, second] = [qemuOf(project().dir, 'first'), qemuOf(project().dir, 'second')];
    const [one, other] = [ownerOf(first), ownerOf(second)];
    expect(one).toEqual({ ...nobodyOnTheHost, uid: one.uid, gid: one.uid });
    expect(other).toEqual({ ...nobodyOnTheHost, uid: other.uid, gid: other.uid });
    expect(new Set([0, one.uid, other.uid]).size).toBe(3);
    const memories = readdirSync(`/proc/${first}/fd`).filter(
      (fd) => readlinkSync(`/proc/${first}/fd/${fd}`) === '/memory',
    );
    expect(memories.map((fd) => readFileSync(`/proc/${first}/fdinfo/${fd}`, 'utf8'))).toEqual([
      expect.stringMatching(/^flags:\t0[0-7]*0$/m), // O_RDONLY
    ]);
  });

  test('have the time of the host', async () => {
    const [seconds = ''] = await inside('second', 'date +%s');
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(5);
  });

  test('hear the host however soon it comes again', async () => {
    for (let count = 0; count < 100; count++) {
      const guest = await guestOfSecond();
      // It sleeps while nobody is connected: what wakes it must not be lost.
      await guest.ask([['sync']], 4000).finally(() => guest.close());
    }
  });

  test('say which of their ports take connections', async () => {
    const guest = await guestOfSecond();
    try {
      await guest.ask([['listens', '22']], 4000);
      await expect(guest.ask([['listens', '23']], 4000)).rejects.toThrow(
        'the guest: error listens: nothing listens on port 23',
      );
    } finally {
      guest.close();
    }
  });

  test('go on from a suspension as they were, with the right time', async () => {
    const lasting = 'cat /proc/sys/kernel/random/boot_id /etc/machine-id; ls /run/mark';
    await inside('first', 'touch /run/mark');
    const before = await inside('first', lasting);
    await project().ok('suspend first', booting);
    await project().ok('resume first', booting);
    expect(await inside('first', lasting)).toEqual(before);
    const [seconds = ''] = await inside('first', 'date +%s');
    expect(Math.abs(Number(seconds) - Date.now() / 1000)).toBeLessThan(5);
  });

  test('start when nobody removes from the store: what they lie over could go', async () => {
    await project().ok('destroy -f second', booting);
    const lock = openSync(join(imagesFolder(store), imageFiles.lock), 'r+');
    expect(tryLockExclusive(lock)).toBe(true);
    const up = project().start('up second', booting);
    await up.prints(/another tsv removes from the store: waiting/, 60_000).finally(() => closeSync(lock));
    expect(await up.result).toMatchObject({ code: 0 });
    expect(await boots()).toEqual(['warm', 'warm']);
  });

  test('keep a log that begins with them', async () => {
    const said = async () => (await inside('first', 'journalctl --boot --no-pager --lines 5')).join('\n');
    await until('the journal', async () => / first /.test(await said()), { timeoutMs: 60_000 });
  });

  test('have nothing left that stands still, whether or not anybody comes', async () => {
    const services =
      "systemd-networkd dbus systemd-logind systemd-journald 'system-serial\\x2dgetty.slice/serial-getty@ttyS0'";
    const states = `for name in ${services}; do grep State: /proc/$(cat "/sys/fs/cgroup/system.slice/$name.service/cgroup.procs")/status; done`;
    const stopped = async (machine: string) =>
      (await inside(machine, states)).filter((line) => line.includes('stopped')).length;
    for (const machine of ['first', 'second']) await until('all go on', async () => (await stopped(machine)) === 0);
    const ask = async (seconds: number) => {
      const guest = await guestOfSecond();
      await guest.ask([['background', String(seconds)]], 4000).finally(() => guest.close());
    };
    await ask(600);
    expect(await stopped('second')).toBe(5);
    await ask(1);
    await until('all go on by themselves', async () => (await stopped('second')) === 0);
  });

  test('keep CPUs that can be added; other memory is another start', async () => {
    project().edit((text) => text.replace(`${memory}M`, '300M'));
    expect((await project().tsv('plan')).stdout).toMatch(/template of its warm start/);
    project().edit((text) => text.replace('300M', `${memory}M`));
  });

  test('S46 are the same machines after they were halted, and boot then; a copy has their files, and is somebody else', async () => {
    const lasting = 'cat /etc/machine-id /root/mark; cat /etc/ssh/ssh_host_ed25519_key.pub /sys/class/net/eth0/address';
    const before = await inside('first', lasting);
    const first = await inside('first', whoAmI);
    await inside('first', 'echo kept >/root/kept');
    await project().ok('halt first', booting);
    const [, step = ''] = /(provision:\n.*\n)/.exec(tsfile) ?? [];
    project().edit((text) => `${text}  third:\n    box: debian-12\n    ${step}`);
    await project().ok('clone first third', booting);
    await project().ok('up first third', booting);
    expect(await boots()).toEqual(['cold', 'warm']);
    expect(await inside('first', lasting)).toEqual(before);

    expect((await project().ok('inspect third --format .boot')).stdout).toBe('cold\n');
    expect(await inside('third', 'cat /root/mark /root/kept; systemctl --failed --no-legend | wc -l')).toEqual([
      'first',
      'kept',
      '0',
    ]);
    const third = await inside('third', whoAmI);
    expect([third[0], third.length]).toEqual(['third', first.length]);
    for (const [index, value] of first.entries()) expect(third[index], `line ${index}`).not.toBe(value);
    await project().ok('destroy -f third', booting);
  });

  test('boot when a byte of the template has changed, and say so in one line', async () => {
    await project().ok('destroy -f second', booting);
    const [template] = templatesWith(memory);
    const file = openSync(join(template?.dir ?? '', templateFiles.memory), 'r+');
    const { atime, mtime } = fstatSync(file);
    writeSync(file, 'x', 4096 * 40);
    futimesSync(file, atime, mtime);
    closeSync(file);
    const { stderr, stdout } = await project().ok('up second', booting);
    expect(`${stdout}${stderr}`).toMatch(
      /second boots cold: its template is not used: its memory has other bytes than it was made with\n/,
    );
    expect(templatesWith(memory).map(({ dir }) => dir)).not.toContain(template?.dir);
    // The disk of the other one still lies over the template's.
    await project().ok('store gc -y', booting);
    await inside('first', 'true');
  });
});

describe('a template', () => {
  const odd = 256 + (process.pid % 31);
  /** What machines of other tests have made in the background is made, or given up. */
  const nobodyMakesAny = () => until('the others', () => unfinished().length === 0, { timeoutMs: 60_000 });

  test('that was cut short by kill -9 leaves nothing that is used, and nothing that runs', async () => {
    const project = fixture({ 'Tsfile.yaml': 'version: 1\nproject: cut\nmachines: {}\n' });
    await project.ok('box build debian-12 --kind vm', booting);
    await project.ok('store gc -y', booting);
    await nobodyMakesAny();
    const making = project.start(`box warm debian-12 --memory ${odd}M`, booting);
    await making.prints(/booting/, 60_000);
    const left = await until('a template in the making', () => unfinished()[0]);
    making.signal('SIGKILL');
    await making.result;
    const isOurs = (pid: string) => {
      try {
        return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(left);
      } catch {
        return false;
      }
    };
    await until('the end of its QEMU', () => readdirSync('/proc').every((pid) => !/^\d+$/.test(pid) || !isOurs(pid)));
    expect(templatesWith(odd)).toEqual([]);
    await project.ok('store gc -y');
    expect(unfinished()).not.toContain(left);
  });

  test('that has no room leaves nothing, and says what takes the room', async () => {
    const project = fixture({ 'Tsfile.yaml': 'version: 1\nproject: small\nmachines: {}\n' });
    const argv = ['prlimit', '--fsize=50000000', process.execPath, tsvProgram, 'box', 'warm', 'debian-12'];
    await nobodyMakesAny();
    const { code, stderr } = await project.run([...argv, '--memory', `${odd}M`], booting);
    expect({ code, stderr }).toMatchObject({ code: 1 });
    expect(stderr).toMatch(/no template of debian-12 could be made \[TSV_TEMPLATE\]/);
    expect(unfinished()).toEqual([]);
    expect(templatesWith(odd)).toEqual([]);
  });

  test('that two want at once is made by one, and the other waits for it', async () => {
    const project = fixture({ 'Tsfile.yaml': 'version: 1\nproject: both\nmachines: {}\n' });
    const one = project.start(`box warm debian-12 --memory ${odd}M`, booting);
    await one.prints(/booting/, 60_000);
    const other = project.start(`box warm debian-12 --memory ${odd}M`, booting);
    await other.prints(/another tsv makes this template: waiting/, 60_000);
    if (givesUsers()) {
      const maker = ownerOf(await until('its QEMU', () => qemusOf(`${unfinished().at(-1)}/memory`)[0]));
      expect(maker).toMatchObject({ groups: '', noNewPrivileges: '1', capabilities: [0n, 0n, 0n, 0n, 0n] });
      expect(maker.uid).toBeGreaterThan(1 << 30);
    }
    expect((await Promise.all([one.result, other.result])).map(({ code }) => code)).toEqual([0, 0]);
    const made = templatesWith(odd);
    expect(made).toHaveLength(1);
    for (const { dir } of made) rmSync(dir, { recursive: true });
  });
});
