import type { VmShape } from '../../src/model/project.ts';
import type { BoxRef, MachineContext } from '../../src/model/provider.ts';
import { asUuid, type Identity } from '../../src/ssh/identity.ts';
import { placesForCpus } from './adjust.ts';
import type { DiskSpec, NicSpec, QemuSpec } from './arguments.ts';
import type { MachineFiles } from './files.ts';
import { cardsOf } from './guest.ts';
import { qemuProgram } from './probe.ts';

/** What is decided at a start, and not by who the machine is. */
export type StartSpec = Pick<QemuSpec, 'accel' | 'balloon' | 'incoming' | 'memoryFile' | 'ring'> & {
  readonly nics: readonly NicSpec[];
  readonly smbiosStrings: readonly string[];
};

/** Everything for the command line of a machine's QEMU. Pure. */
export function machineSpec(
  context: MachineContext,
  files: MachineFiles,
  identity: Identity,
  start: StartSpec,
): QemuSpec {
  const { machine, box, addresses, networks } = context;
  return {
    ...start,
    ...guestSpec(machine, box, {
      machineId: identity.machineId,
      hostname: machine.hostname,
      cards: cardsOf(addresses, networks),
    }),
    name: `${context.projectName}/${machine.name}`,
    processName: `tsv-${machine.name}`,
    disks: [
      { path: files.disk, format: 'qcow2' },
      ...machine.disks.map((disk): DiskSpec => ({ path: files.dataDisk(disk), format: 'qcow2', serial: disk.name })),
    ],
    console: { path: files.consoleSocket },
    qmp: { path: files.qmpSocket },
    guest: { path: files.guestSocket },
  };
}

/** Where a template's own files are while it is made. */
export interface TemplatePlaces {
  readonly disk: string;
  readonly memory: string;
  readonly credentials: string;
  /** An empty disk in the place of the data disk with this number. */
  blank(index: number): string;
}

/** Nobody's: who goes on from the template gets its own. Not random, so that the same machine has the same key. */
const nobody: Who = { machineId: '7e3f1a5c9b2d4e6f8a1b3c5d7e9f0a2b', hostname: 'template', cards: [] };
/** Descriptors that it inherits. */
export const templateFds = { console: 3, qmp: 4, guest: 5 } as const;

/** The machine that a template is made of: the devices of this one, and none of what makes it this one. Pure. */
export function templateSpec(machine: VmShape, box: BoxRef, accel: 'kvm' | 'tcg', places: TemplatePlaces): QemuSpec {
  return {
    ...guestSpec(machine, box, nobody),
    accel,
    balloon: false,
    incoming: false,
    ring: false,
    memoryFile: { path: places.memory, shared: true },
    name: 'template',
    processName: 'tsv-template',
    disks: [
      { path: places.disk, format: 'qcow2' },
      ...machine.disks.map(
        ({ name }, index): DiskSpec => ({ path: places.blank(index), format: 'qcow2', serial: name }),
      ),
    ],
    // As those that machines have, in a namespace where there is nothing else: guests see what a card's other end can do.
    nics: machine.networks.map((_, index) => ({
      mac: `52:54:00:00:00:0${index}`,
      backend: { type: 'tap', ifname: `tap${index}` },
    })),
    smbiosStrings: [places.credentials],
    console: { fd: templateFds.console },
    qmp: { fd: templateFds.qmp },
    guest: { fd: templateFds.guest },
  };
}

/** Who a guest is, as its kernel's command line says it. */
interface Who {
  readonly machineId: string;
  readonly hostname: string;
  readonly cards: ReturnType<typeof cardsOf>;
}

function guestSpec(machine: VmShape, box: BoxRef, who: Who) {
  const cards = who.cards.map(({ device, address, prefix, gateway }) =>
    [device, `${address}/${prefix}`, ...(gateway === undefined ? [] : [gateway])].join(','),
  );
  const words = [
    ...(box.cmdline ?? '').split(/\s+/),
    'net.ifnames=0', // eth0, eth1, … as MachineAddress.device promises
    `systemd.machine_id=${who.machineId}`,
    `systemd.hostname=${who.hostname}`,
    // For the box's initrd: the network is there before the system is.
    ...(cards.length === 0 ? [] : [`tsv_net=${cards.join('+')}`]),
  ];
  return {
    binary: qemuProgram,
    uuid: asUuid(who.machineId),
    cpus: machine.cpus,
    mostCpus: placesForCpus(machine.cpus),
    memoryBytes: machine.memoryBytes,
    ...(box.kernel === undefined
      ? {}
      : {
          boot: {
            kernel: box.kernel,
            ...(box.initrd === undefined ? {} : { initrd: box.initrd }),
            cmdline: [...new Set(words)].join(' ').trim(),
          },
        }),
  };
}
