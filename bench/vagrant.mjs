import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { programPath } from './docker.mjs';
import { openVagrant } from './libvirt.mjs';
import { interleave, run } from './measure.mjs';
import { boxName, buildBox, createProject, tsv } from './project.mjs';

const five = 5;
const ten = 10;

/** The life of a VM beside Vagrant's with libvirt: the same disk, kernel, memory and CPU on the same QEMU. */
export const vagrant = {
  name: 'vagrant',
  rounds: 2,
  async run({ dir, rounds, cleanup, skip, note }) {
    if (programPath('qemu-system-x86_64') === undefined)
      return skip('QEMU is not installed (Debian: qemu-system-x86)') ?? [];
    await buildBox('vm');
    const can = await abilities();
    const project = (name, replicas) => {
      const made = createProject(
        join(dir, `vagrant-${name}`),
        `version: 1\nproject: bench-${name}\ndefaults: { memory: 512M, cpus: 1 }\nmachines:\n  vm: { box: ${boxName}${replicas === undefined ? '' : `, replicas: ${replicas}`} }\n`,
      );
      cleanup(() => made.time('destroy', '-f', '--quiet'));
      return made;
    };
    const one = project('one');
    const other = await openVagrant({ dir, cleanup, skip });
    const theirs = other?.project();
    if (theirs !== undefined) {
      note(other.version);
      cleanup(() => theirs.time('destroy', '-f'));
      // Its first one copies the box into its pool, which is no part of the figure.
      await theirs.time('up', '--provider', 'libvirt');
      await theirs.time('destroy', '-f');
    }
    const cold = await interleave(
      [
        async () => ({ up: await one.time('up', '--quiet'), ...(await life(one, can)) }),
        ...(theirs === undefined ? [] : [async () => theirLife(theirs, can)]),
      ],
      { rounds, warmups: 0 },
    );
    const warm = can.warm ? await warmRows({ one, project, rounds, theirs: cold.theirUp }) : [];
    const at = project('five', five);
    const together = await interleave(
      [async () => ({ one: await upAndDown(one) }), async () => ({ five: await upAndDown(at) })],
      { rounds, warmups: 0 },
    );
    return [
      row('`tsv up`, one VM, cold', cold.up, '`vagrant up` (libvirt, the same box)', cold.theirUp, 0.33),
      ...warm,
      row('`tsv ssh NAME -c true`, VM', cold.ssh, '`vagrant ssh -c true`', cold.theirSsh, 0.17),
      ...(can.snapshot
        ? [
            row(
              '`tsv snapshot restore`, running VM',
              cold.restore,
              '`vagrant snapshot restore`',
              cold.theirRestore,
              0.25,
            ),
          ]
        : []),
      row('`tsv destroy`, one VM', cold.destroy, '`vagrant destroy`', cold.theirDestroy, 0.13),
      row(`\`tsv up\`, ${five} VMs${can.warm ? ', warm' : ''}`, together.five, 'one VM', together.one, 2.5),
    ];
  },
};

const row = (what, ours, peer, theirs, target) => ({ what, ours, peer, theirs, target });

/** What this tsv has: rows of what it has not are left out. */
async function abilities() {
  const has = async (...command) => (await run([...tsv, 'help', ...command])).stdout;
  return { warm: /^ +warm\b/m.test(await has('box')), snapshot: /^ +snapshot\b/m.test(await has()) };
}

/** A VM can be reached while most of its system still starts, and is slow then. */
const settled = 'systemctl is-system-running --wait >/dev/null || true';

/** What is done with a VM that is up, to its end. */
async function life(project, can) {
  await project.time('ssh', 'vm', '-c', settled);
  const ssh = await project.time('ssh', 'vm', '-c', 'true');
  let restore = {};
  if (can.snapshot) {
    await project.time('snapshot', 'save', 'bench');
    restore = { restore: await project.time('snapshot', 'restore', 'bench') };
  }
  return { ssh, ...restore, destroy: await project.time('destroy', '-f', '--quiet') };
}

async function theirLife(theirs, can) {
  const theirUp = await theirs.time('up', '--provider', 'libvirt');
  await theirs.time('ssh', '-c', settled);
  const theirSsh = await theirs.time('ssh', '-c', 'true');
  let restore = {};
  if (can.snapshot) {
    await theirs.time('snapshot', 'save', 'bench');
    restore = { theirRestore: await theirs.time('snapshot', 'restore', '--no-provision', 'bench') };
  }
  return { theirUp, theirSsh, ...restore, theirDestroy: await theirs.time('destroy', '-f') };
}

async function upAndDown(project) {
  const ms = await project.time('up', '--quiet');
  await project.time('destroy', '-f', '--quiet');
  return ms;
}

/** A start from a template, beside what a cold one takes with Vagrant; and what many of them take of memory. */
async function warmRows({ one, project, rounds, theirs }) {
  await run([...tsv, 'box', 'warm', boxName], { cwd: one.dir });
  const many = project('ten', ten);
  const measured = await interleave(
    [
      async () => {
        const up = await one.time('up', '--quiet');
        const pss = pssMiB(one);
        await one.time('destroy', '-f', '--quiet');
        return { up, pss };
      },
      async () => {
        await many.time('up', '--quiet');
        const manyPss = pssMiB(many);
        await many.time('destroy', '-f', '--quiet');
        return { manyPss };
      },
    ],
    { rounds, warmups: 0 },
  );
  return [
    row('`tsv up`, one VM, warm', measured.up, '`vagrant up`', theirs, 0.04),
    { ...row(`memory of ${ten} warm VMs of 512M, idle`, measured.manyPss, 'of one', measured.pss, 4), unit: 'MiB' },
  ];
}

/** What the QEMU processes of a project have of memory, what they share divided among them. */
function pssMiB({ dir }) {
  const { machines } = JSON.parse(readFileSync(join(dir, '.ts-vm/state.json'), 'utf8'));
  const pids = Object.values(machines).map(({ process }) => process.pid);
  const kibibytes = pids.map((pid) =>
    Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]),
  );
  return kibibytes.reduce((sum, value) => sum + value, 0) / 1024;
}
