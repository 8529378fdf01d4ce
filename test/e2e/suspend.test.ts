import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { killNow } from '../support/cli.ts';
import { fixture, sharedFixture } from '../support/fixture.ts';
import { until } from '../support/until.ts';

const tsfile = `
version: 1
project: asleep
networks: { default: { mode: isolated } }
machines:
  vm:
    box: debian-12
    warm: false # its memory is its own, whatever templates there are: other tests are about these
    memory: 256M
    disks: [{ name: data, size: 16M }]
  box: { image: debian-12, memory: 64M, depends_on: [vm] }
`;

/** A connection with a line every 100 ms, each of which is written to the data disk, and synced, before the next one comes. */
const pair = `use IO::Socket::INET; use IO::Handle; $| = 1;
my $listener = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => 9, Listen => 1, ReuseAddr => 1) or die $!;
if (fork) {
  my $from = $listener->accept; open(my $to, '>', '/mnt/lines') or die $!;
  while (my $line = <$from>) { print $to $line; $to->flush; $to->sync; print $from "ok\\n"; $from->flush }
} else {
  my $to = IO::Socket::INET->new('127.0.0.1:9') or die $!;
  for (my $n = 1; ; $n++) { print $to "$n\\n"; $to->flush; my $answer = <$to>; die unless $answer; select(undef, undef, undef, 0.1) }
}`;

const start = `systemctl is-system-running --wait >/dev/null; set -e; mkfs.ext4 -q /dev/disk/by-id/virtio-data; mount /dev/disk/by-id/virtio-data /mnt
systemd-run -q --unit pair perl -e '${pair.replaceAll("'", `'\\''`)}'
systemd-run -q --unit beat --on-active=1 --on-unit-active=1 --timer-property=AccuracySec=50ms sh -c 'echo beat >>/dev/shm/beats'`;

describe('a virtual machine that is suspended', () => {
  const project = sharedFixture(
    'a virtual machine that is suspended',
    { 'Tsfile.yaml': tsfile },
    {
      prepare: async (made) => {
        await made.ok('up', { timeoutMs: 240_000 });
        await made.ok(['exec', 'vm', '--', 'sh', '-c', start]);
      },
    },
  );
  const inside = async (line: string) => (await project().ok(['exec', 'vm', '--', 'sh', '-c', line])).stdout.trim();
  const bootId = () => inside('cat /proc/sys/kernel/random/boot_id');
  const count = async (file: string) => Number(await inside(`cat ${file} 2>/dev/null | wc -l`));
  const goesOn = async () => {
    for (const file of ['/mnt/lines', '/dev/shm/beats']) {
      const before = await count(file);
      await until(`more in ${file}`, async () => (await count(file)) > before);
    }
  };
  const fileOf = (machine: string, disk: string) => join(project().dir, '.ts-vm', 'machines', machine, disk);
  const tags = async (machine = 'vm') => {
    const disk = fileOf(machine, 'disk.qcow2');
    const { stdout } = await project().run(['qemu-img', 'info', '-U', '--output=json', disk]);
    const { snapshots = [] } = JSON.parse(stdout) as { snapshots?: { name: string }[] };
    return snapshots.map(({ name }) => name);
  };
  const year = () => inside('date -u +%Y');

  test('goes on with its connections, timers and files after its host has forgotten it, and with the right time', async () => {
    const before = await bootId();
    await goesOn();
    const address = (await project().status()).machines[0]?.addresses.default;
    await inside('date -s 2001-01-01');
    const { stderr } = await project().ok('suspend');
    expect(stderr).toMatch(/containers cannot be suspended, and are halted: box/);
    expect(await project().states()).toEqual({ vm: 'suspended', box: 'stopped (halted by tsv suspend)' });
    await until('the agent has left', () => project().agentPid() === undefined);
    expect(await tags()).toEqual(['tsv-suspend']);
    expect((await project().tsv('exec vm -- true')).stderr).toMatch(/vm is suspended[\s\S]*tsv resume vm/);
    expect((await project().tsv('snapshot save now')).stderr).toMatch(/vm is suspended/);
    expect((await project().tsv('suspend box')).stderr).toMatch(/TSV_UNSUPPORTED[\s\S]*tsv pause box/);

    await project().ok('resume');
    expect(await project().states()).toEqual({ vm: 'running', box: 'running' });
    expect(await bootId()).toBe(before);
    expect(Number(await year())).toBe(new Date().getUTCFullYear());
    expect((await project().status()).machines[0]?.addresses.default).toBe(address);
    expect((await project().ok('exec box -- getent hosts vm')).stdout).toContain(address);
    await goesOn();
    // Each line once, in order: the file is that of the memory.
    expect(
      await inside(
        'seq 1 "$(wc -l </mnt/lines)" | head -n "$(wc -l </mnt/lines)" | cmp -n 20 - /mnt/lines && echo same',
      ),
    ).toBe('same');
    expect(await tags()).toEqual([]);
    expect((await project().tsv('resume vm')).stderr).toMatch(/not suspended: vm/);
    expect((await project().ok('events vm')).stdout).toMatch(/ {2}suspended\n[\s\S]* {2}resumed\n/);
  }, 120_000);

  test('is resumed by up as it was, whatever the Tsfile says by now, with CPUs that it got as it ran', async () => {
    project().edit((text) => text.replace('memory: 256M', 'memory: 256M\n    cpus: 2'));
    await project().ok('up', { timeoutMs: 90_000 });
    const [before, pid] = [await bootId(), project().machinePid('vm')];
    expect(await inside('nproc')).toBe('2');
    project().edit((text) => text.replace('memory: 256M', 'memory: 300M'));
    await project().ok('suspend vm');
    expect(await project().states()).toMatchObject({ vm: 'suspended', box: 'running' });
    expect((await project().tsv('plan')).stdout).toMatch(/~ vm +resume/);
    expect((await project().ok('up')).stderr).toMatch(/vm +it goes on as it was \(memory changed\): the next tsv up/);
    expect(project().machinePid('vm')).not.toBe(pid);
    expect([await bootId(), await inside('nproc')]).toEqual([before, '2']);
    expect((await project().tsv('plan')).stdout).toMatch(/memory changed: it /);
    project().edit((text) => text.replace('memory: 300M', 'memory: 256M'));
    await goesOn();
  }, 120_000);

  test('F1 whose agent is killed on the way goes on all the same, once', async () => {
    const before = await bootId();
    const suspending = project().start('suspend vm');
    await until('it is being saved', () => project().state()?.machines.vm?.saving !== undefined);
    await killNow(project().agentPid() ?? 0);
    expect((await suspending.result).code).not.toBe(0);
    await project().ok('up');
    expect(await bootId()).toBe(before);
    await goesOn();
    expect(project().state()?.machines.vm).not.toHaveProperty('saving');
    // What is left on its disk goes with the next save.
    await project().ok('snapshot save next vm');
    expect(await tags()).toHaveLength(1);
    await project().ok('snapshot delete next');
    expect(await tags()).toEqual([]);
  }, 120_000);

  test('is what it was at a snapshot, memory and disks, and the snapshot stays', async () => {
    const before = await bootId();
    // A user who may make no cgroups cannot save containers that run.
    const both = (await project().tsv('pause --quiet box')).code === 0;
    if (both) await project().ok('unpause --quiet box');
    await inside('echo then >/dev/shm/note; echo then >/root/note; sync; date -s 2001-01-01');
    await project().ok(both ? 'snapshot save then' : 'snapshot save then vm');
    expect(await project().states()).toEqual({ vm: 'running', box: 'running' });
    const pid = project().machinePid('vm');
    for (const _ of ['once', 'again']) {
      await inside('echo now >/dev/shm/note; echo now >/root/note; sync; systemctl stop pair beat.timer');
      await project().ok('snapshot restore then');
      expect(await inside('cat /dev/shm/note /root/note')).toBe('then\nthen');
      expect(await bootId()).toBe(before);
      expect(Number(await year())).toBe(new Date().getUTCFullYear());
      await goesOn();
      expect(project().machinePid('vm')).toBe(pid);
    }
    const restoring = project().start('snapshot restore then vm');
    await until('it is set back', () => project().state()?.machines.vm?.restoring !== undefined);
    await killNow(project().agentPid() ?? 0);
    expect((await restoring.result).code).not.toBe(0);
    await project().ok('snapshot restore then vm');
    expect(await inside('cat /dev/shm/note /root/note')).toBe('then\nthen');
    await goesOn();
    const [listed] = JSON.parse((await project().ok('snapshot list --json')).stdout) as { machines: object[] }[];
    expect(listed?.machines).toEqual([
      expect.objectContaining({ machine: 'vm', memory: true, was: 'running', without: [] }),
      ...(both ? [expect.objectContaining({ machine: 'box', memory: false, was: 'running' })] : []),
    ]);
  }, 120_000);

  test('loses its memory by halt, which says so; a snapshot brings it back, and destroy takes that along', async () => {
    const before = await bootId();
    project().edit(
      (text) => `${text}  copy: { box: debian-12, warm: false, memory: 300M, disks: [{ name: data, size: 32M }] }\n`,
    );
    await project().ok('suspend vm');
    expect((await project().tsv('clone vm copy')).stderr).toMatch(/vm is suspended[\s\S]*tsv resume vm && tsv halt vm/);
    expect((await project().ok('halt')).stderr).toMatch(/vm +its memory of .* is thrown away/);
    expect(await project().states()).toMatchObject({ vm: 'stopped', box: 'stopped' });
    expect(await tags()).toEqual([expect.stringMatching(/^tsv-[0-9a-f]{16}$/)]);
    await project().ok('snapshot save down vm');
    // A copy has none of its snapshots, nor their memory, and the same on its disks.
    await project().ok('clone vm copy');
    expect([await tags('vm'), await tags('copy')]).toEqual([[expect.any(String), expect.any(String)], []]);
    for (const disk of ['disk.qcow2', 'disks/data.qcow2'])
      expect((await project().run(['qemu-img', 'compare', fileOf('vm', disk), fileOf('copy', disk)])).stdout).toMatch(
        /^Images are identical/m,
      );
    await project().ok('destroy --force copy');
    await project().ok('snapshot restore then');
    expect(await bootId()).toBe(before);
    expect(await project().states()).toMatchObject({ vm: 'running' });
    await project().ok('snapshot restore down');
    expect(await project().states()).toMatchObject({ vm: 'stopped' });
    // Of another version of tsv, say.
    const file = join(project().dir, '.ts-vm', 'snapshots', 'then.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace(/"layout": \d+/, '"layout": 999'));
    expect((await project().tsv('snapshot restore then')).stderr).toMatch(
      /nothing was changed[\s\S]*--disks-only then/,
    );
    await project().ok('snapshot restore --disks-only then vm');
    expect(await project().states()).toMatchObject({ vm: 'stopped' });
    const { stderr } = await project().ok('destroy --force');
    expect(stderr).toMatch(/vm +its 2 snapshots went with it: then, down/);
  }, 120_000);
});

test('a project of containers is halted by suspend, and started by resume', async () => {
  const project = fixture({
    'Tsfile.yaml':
      'version: 1\nnetworks: { default: { mode: isolated } }\nmachines:\n  a: { image: debian-12, memory: 64M }\n',
  });
  await project.ok('up --quiet');
  await project.ok('suspend --quiet');
  expect(await project.states()).toEqual({ a: 'stopped (halted by tsv suspend)' });
  await project.ok('resume --quiet');
  expect(await project.states()).toEqual({ a: 'running' });
  expect((await project.ok('resume')).stderr).toBe('Nothing is suspended.\n');
});
