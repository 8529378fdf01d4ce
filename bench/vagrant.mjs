import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { programPath } from './docker.mjs';
import { openVagrant } from './libvirt.mjs';
import { interleave, run } from './measure.mjs';
import { boxName, buildBox, createProject, tsv } from './project.mjs';

const provisionS = 20;
const five = 5;
const ten = 10;
/** By then all that machines do behind a command is done: logins and what settles, one machine after the other. */
const idleMs = 20_000;

/** The life of a VM beside Vagrant's with libvirt: the same disk, kernel, memory and CPU on the same QEMU. */
export const vagrant = {
  name: 'vagrant',
  rounds: 3,
  async run({ dir, rounds, cleanup, skip, note }) {
    if (programPath('qemu-system-x86_64') === undefined)
      return skip('QEMU is not installed (Debian: qemu-system-x86)') ?? [];
    await buildBox('vm');
    const project = (name, { replicas = 1, warm = true, more = '' } = {}) => {
      const made = createProject(
        join(dir, `vagrant-${name}`),
        `version: 1
project: bench-${name}
defaults: { memory: 512M, cpus: 1, warm: ${warm} }
machines:
  vm: { box: ${boxName}${replicas === 1 ? '' : `, replicas: ${replicas}`}${more} }
`,
      );
      cleanup(() => made.time('destroy', '-f', '--quiet'));
      return made;
    };
    const one = project('cold', { warm: false });
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
        async () => ({ up: await one.time('up', '--quiet'), ...(await life(one)) }),
        ...(theirs === undefined ? [] : [async () => theirLife(theirs)]),
      ],
      { rounds, warmups: 0 },
    );
    const warm = await warmRows({ project, rounds, note, theirUp: cold.theirUp, theirFirst: cold.theirFirst });
    return [
      row('`tsv up`, one VM, cold', cold.up, '`vagrant up` (libvirt, the same box)', cold.theirUp, 0.33),
      ...warm,
      row('`tsv ssh NAME -c true`, VM', cold.ssh, '`vagrant ssh -c true`', cold.theirSsh, 0.17),
      row('`tsv snapshot restore`, running VM', cold.restore, '`vagrant snapshot restore`', cold.theirRestore, 0.25),
      row('`tsv destroy`, one VM', cold.destroy, '`vagrant destroy`', cold.theirDestroy, 0.13),
    ];
  },
};

const row = (what, ours, peer, theirs, target) => ({ what, ours, peer, theirs, target });

/** A VM can be reached while most of its system still starts, and is slow then. */
const settled = 'systemctl is-system-running --wait >/dev/null; sleep 3';

/** What is done with a VM that is up, to its end. */
async function life(project) {
  await project.time('ssh', 'vm', '-c', settled);
  const ssh = await project.time('ssh', 'vm', '-c', 'true');
  await project.time('snapshot', 'save', 'bench', '--quiet');
  const restore = await project.time('snapshot', 'restore', 'bench', '--quiet');
  return { ssh, restore, destroy: await project.time('destroy', '-f', '--quiet') };
}

async function theirLife(theirs) {
  const theirUp = await theirs.time('up', '--provider', 'libvirt');
  const theirFirst = theirUp + (await theirs.time('ssh', '-c', 'true'));
  await theirs.time('ssh', '-c', settled);
  const theirSsh = await theirs.time('ssh', '-c', 'true');
  await theirs.time('snapshot', 'save', 'bench');
  const theirRestore = await theirs.time('snapshot', 'restore', '--no-provision', 'bench');
  return { theirUp, theirFirst, theirSsh, theirRestore, theirDestroy: await theirs.time('destroy', '-f') };
}

/**
 * Starts from a template, beside what a cold one takes with Vagrant; several at once, and what many of them take of memory; and one
 * that is destroyed and comes back provisioned.
 */
async function warmRows({ project, rounds, note, theirUp, theirFirst }) {
  const projects = {
    one: project('one'),
    five: project('five', { replicas: five }),
    ten: project('ten', { replicas: ten }),
  };
  const steps = `provision: [{ shell: { inline: "sleep ${provisionS}; echo done >/root/done" } }]`;
  const cached = project('cached', { more: `, cache: true, ${steps}` });
  await run([...tsv, 'box', 'warm', boxName, '--memory', '512M', '--cpus', '1', '--quiet'], { cwd: projects.one.dir });
  const cycle = (name) => async () => {
    const ms = await projects[name].time('up', '--quiet');
    const cold = machinesOf(projects[name]).filter(({ boot }) => boot !== 'warm').length;
    if (cold > 0) note(`${cold} of what was to start warm booted, in ${Math.round(ms)} ms`);
    const pss = name === 'five' ? {} : { [`${name}Pss`]: await idlePssMiB(projects[name]) };
    await projects[name].time('destroy', '-f', '--quiet');
    return { [name]: ms, ...pss };
  };
  // None is left running: what it does next would be in the figures of others.
  const again = (name, made) => async () => {
    await made.time('up', '--quiet');
    const ms = (await made.time('destroy', '-f', '--quiet')) + (await made.time('up', '--quiet'));
    await made.time('destroy', '-f', '--quiet');
    return { [name]: ms };
  };
  const measured = await interleave(
    [
      ...Object.keys(projects).map(cycle),
      async () => {
        const up = await projects.one.time('up', '--quiet');
        const first = up + (await projects.one.time('ssh', 'vm', '-c', 'true'));
        await projects.one.time('destroy', '-f', '--quiet');
        return { first };
      },
      again('plain', projects.one),
      again('cached', cached),
    ],
    { rounds, warmups: 0 },
  );
  return [
    row('`tsv up`, one VM, warm', measured.one, '`vagrant up`', theirUp, 0.04),
    row('the same, and the first `tsv ssh -c true`', measured.first, 'the first `vagrant ssh -c true`', theirFirst),
    row(`\`tsv up\`, ${five} VMs, warm`, measured.five, 'one VM', measured.one, 2.5),
    row(
      `\`destroy\` and \`up\` of a VM with ${provisionS} s of provisioning, cached`,
      measured.cached,
      'the same without provisioning, warm',
      measured.plain,
      1.2,
    ),
    { ...row(`memory of ${ten} warm VMs of 512M, idle`, measured.tenPss, 'of one', measured.onePss, 4), unit: 'MiB' },
  ];
}

const machinesOf = ({ dir }) =>
  Object.values(JSON.parse(readFileSync(join(dir, '.ts-vm/state.json'), 'utf8')).machines);

/** What the QEMU processes of a project have of memory when they are idle, what they share divided among them. */
async function idlePssMiB({ dir }) {
  await delay(idleMs);
  const pids = machinesOf({ dir }).map(({ process }) => process.pid);
  const kibibytes = pids.map((pid) =>
    Number(/^Pss:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/smaps_rollup`, 'utf8'))[1]),
  );
  return kibibytes.reduce((sum, value) => sum + value, 0) / 1024;
}
