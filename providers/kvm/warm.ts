import { existsSync, rmSync, writeFileSync } from 'node:fs';
import { TsvError } from '../../src/model/errors.ts';
import type { MachineContext } from '../../src/model/provider.ts';
import type { Identity } from '../../src/ssh/identity.ts';
import {
  disown,
  findTemplate,
  markUsed,
  readTemplate,
  type Template,
  whyUnusable,
} from '../../src/store/template/template.ts';
import type { KvmFacts } from './accel.ts';
import { identityFiles } from './credentials.ts';
import type { MachineFiles } from './files.ts';
import { becoming, connectGuest, type GuestRequest } from './guest.ts';
import { migrationEnd, migrationWith } from './migration.ts';
import type { Qmp } from './qmp.ts';
import { templateKeyOf } from './template.ts';

/** Whether a machine may go on from a template, if there is one. Pure, but for its disk, which must never have run. */
export const isWarmable = ({ machine, box }: MachineContext, files: MachineFiles): boolean =>
  machine.warm !== false && box.warm === true && box.disk !== undefined && existsSync(files.unused);

/**
 * What a machine that was made from a layer begins with. `goesOn`: with its memory, too, where this host and the Tsfile have what
 * the layer was made with.
 * @throws TSV_CACHE when it is damaged
 */
export async function takeLayer(
  { machine, box }: MachineContext,
  folder: string,
  accel: 'kvm' | 'tcg',
  facts: KvmFacts,
): Promise<{ readonly layer: Template; readonly goesOn: boolean }> {
  const layer = readTemplate(folder);
  const problem = layer === undefined ? 'it is not complete' : await whyUnusable(folder);
  if (layer === undefined || problem !== undefined)
    throw new TsvError('TSV_CACHE', `what ${machine.name} was to be made from is damaged: ${problem}`, {
      details: [folder],
      hint: `tsv destroy ${machine.name} && tsv up --no-cache ${machine.name}`,
    });
  return { layer, goesOn: machine.warm !== false && layer.key === templateKeyOf({ machine, box, accel, facts }) };
}

/** The template for a machine's first start, or why there is none. One that is damaged is none any more. */
export async function takeTemplate(
  { machine, box }: MachineContext,
  accel: 'kvm' | 'tcg',
  { store, facts }: { readonly store: string; readonly facts: KvmFacts },
): Promise<Template | string> {
  const template = findTemplate(store, templateKeyOf({ machine, box, accel, facts }));
  if (template === undefined)
    return `there is no template of ${box.name} with ${machine.memoryBytes / 2 ** 20}M and ${cpusText(machine.cpus)} yet`;
  const problem = await whyUnusable(template.dir);
  if (problem !== undefined) {
    disown(template.dir);
    return `its template is not used: ${problem}`;
  }
  markUsed(template);
  return template;
}

const cpusText = (cpus: number): string => (cpus === 1 ? '1 CPU' : `${cpus} CPUs`);

const loadMs = 30_000;
/** A guest that shares an emulated CPU with many others. */
const guestMs = 60_000;
const settleMs = 5000;
/** What follows changes stands still, for 20 s at most, where no command has come and no login. */
export const standStill: GuestRequest = ['background', '20'];

/** Gives a QEMU that waits for it the state of devices that it has open as descriptor 3. @throws QmpError */
async function loadDevices(qmp: Qmp): Promise<void> {
  const end = migrationEnd(qmp);
  try {
    await qmp.execute('migrate-set-capabilities', migrationWith(false));
    await qmp.execute('migrate-incoming', { uri: 'fd:3' });
    await end.ended(loadMs);
  } finally {
    end.ignore();
  }
}

/**
 * Loads the state of a template into a QEMU that waits for it, and lets it go on as this machine and no other: until it has its identity it is on no network.
 * @throws Error with what the guest says, or that it says nothing
 */
export async function goOn(qmp: Qmp, context: MachineContext, files: MachineFiles, identity: Identity): Promise<void> {
  const { machine, addresses, networks, box } = context;
  // Before the load, so that the guest finds the port as it left it: connected.
  const guest = await connectGuest(files.guestSocket);
  try {
    await loadDevices(qmp);
    // A template's is out already; that of a machine that was kept was not.
    const link = (index: number, up: boolean) => qmp.execute('set_link', { name: `net${index}`, up });
    for (const index of addresses.keys()) await link(index, false);
    await qmp.execute('cont');
    const resolver = {
      search: context.projectName,
      nameServers: addresses.flatMap(({ network }) => networks[network]?.gateway ?? []),
    };
    const own = identityFiles(identity, box.user, machine.hostname, resolver);
    // A box of an older version has none of it.
    guest.ask([standStill], guestMs).catch(() => {});
    const machineId = { path: '/etc/machine-id', mode: '0444', owner: 'root', text: `${identity.machineId}\n` };
    await guest.ask(
      becoming({ identity, hostname: machine.hostname, files: [...own, machineId], addresses, networks }),
      guestMs,
    );
    for (const index of addresses.keys()) await link(index, true);
    await guest.ask(
      addresses.map(({ device }) => ['carrier', device] as const),
      guestMs,
    );
    writeFileSync(files.unsettled, '');
  } finally {
    guest.close();
  }
}

async function askUnsettled(files: MachineFiles, request: 'foreground' | 'settle'): Promise<void> {
  if (!existsSync(files.unsettled)) return;
  const guest = await connectGuest(files.guestSocket);
  try {
    await guest.ask([[request]], settleMs);
    if (request === 'settle') rmSync(files.unsettled, { force: true });
  } finally {
    guest.close();
  }
}

/** Has a guest that went on begin what remembers who it was anew, once. What fails is tried the next time. */
export const settle = (files: MachineFiles): Promise<void> => askUnsettled(files, 'settle');

/** What works in the background of a guest that went on, since it came, gets the CPU as ever again. */
export const bringForward = (files: MachineFiles): Promise<void> => askUnsettled(files, 'foreground');
