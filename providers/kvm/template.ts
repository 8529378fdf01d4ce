import { createHash } from 'node:crypto';
import { mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { basename, join } from 'node:path';
import { TsvError } from '../../src/model/errors.ts';
import type { VmShape } from '../../src/model/project.ts';
import type { BoxRef } from '../../src/model/provider.ts';
import { generateKeyPair } from '../../src/ssh/keys.ts';
import { holdingLock } from '../../src/store/held-lock.ts';
import { templateFiles, templatePaths } from '../../src/store/template/layout.ts';
import { disown, findTemplate, sealTemplate, type Template, whyUnusable } from '../../src/store/template/template.ts';
import { syncFolder } from '../../src/sys/sync-folder.ts';
import type { KvmFacts } from './accel.ts';
import { qemuArguments } from './arguments.ts';
import { credentials, identityFiles, writeCredentials } from './credentials.ts';
import { createImage } from './disk.ts';
import { converseGuest } from './guest.ts';
import { bootFiles } from './jail.ts';
import { saveDevices } from './migration.ts';
import { converseQmp } from './qmp.ts';
import { templateSpec } from './spec.ts';
import { type QemuOptions, type TemplateQemu, untilAtRest } from './template-qemu.ts';
import { startForTemplate } from './template-start.ts';
import { errorText } from './text.ts';

/** Raised when what is in a template changes, or what a guest has to do to go on from it. */
const format = 1;

/** What a template is made of and for. */
export interface TemplateRequest {
  readonly store: string;
  readonly machine: VmShape;
  readonly box: BoxRef;
  readonly accel: 'kvm' | 'tcg';
  readonly facts: KvmFacts;
}

/**
 * What a template is found by: sha256 over all that its memory depends on. The whole command line is in it, with places of
 * no machine: another device, another key.
 */
export function templateKeyOf({ machine, box, accel, facts }: Omit<TemplateRequest, 'store'>): string {
  const places = { disk: 'disk', memory: 'memory', credentials: 'credentials', blank: (index: number) => `${index}` };
  const what = {
    format,
    box: box.digest,
    qemu: facts.qemu,
    host: accel === 'kvm' ? [facts.cpuModel, facts.kernelRelease] : [],
    argv: qemuArguments(templateSpec(machine, box, accel, places)),
    disks: machine.disks.map(({ sizeBytes }) => sizeBytes),
  };
  return createHash('sha256').update(JSON.stringify(what)).digest('hex');
}

export interface MakeOptions extends QemuOptions {
  readonly progress: (text: string) => void;
}

/** An emulated CPU that shares the host with others may need minutes. */
const bootMs = 240_000;
const answerMs = 30_000;

/**
 * The template of such a machine: booted once, without a network, and frozen at rest. However many ask, one makes it and the
 * others wait. It counts when its folder has its final name; what a killed one left goes with the next of the same key.
 * Its QEMU ends with this process, however that ends.
 * @throws TSV_TEMPLATE, TSV_CANCELLED, TSV_HOST_MISSING
 */
export async function ensureTemplate(request: TemplateRequest, options: MakeOptions): Promise<Template> {
  const key = templateKeyOf(request);
  const paths = templatePaths(request.store, key);
  const there = await usable(request.store, key);
  if (there !== undefined) return there;
  mkdirSync(paths.folder, { recursive: true, mode: 0o700 });
  const waiting = () => options.progress('another tsv makes this template: waiting');
  return holdingLock(paths.lock, 'exclusive', { signal: options.signal, waiting }, async () => {
    const sinceThen = await usable(request.store, key);
    if (sinceThen !== undefined) return sinceThen;
    for (const name of readdirSync(paths.folder))
      if (name.startsWith(paths.unfinished)) rmSync(join(paths.folder, name), { recursive: true, force: true });
    const staging = mkdtempSync(join(paths.folder, paths.unfinished));
    try {
      await make(request, key, staging, options);
      renameSync(staging, join(paths.folder, basename(staging).replace(paths.unfinished, paths.finished)));
      syncFolder(paths.folder);
    } catch (cause) {
      rmSync(staging, { recursive: true, force: true });
      if (options.signal.aborted) throw new TsvError('TSV_CANCELLED', 'interrupted', { exitCode: 130 });
      if (cause instanceof TsvError && cause.code !== 'TSV_VM_START') throw cause;
      throw failure(request, cause);
    }
    const made = findTemplate(request.store, key);
    if (made === undefined) throw failure(request, new Error(`it vanished from ${paths.folder}`));
    return made;
  });
}

/** The template with this key; one that is damaged is none any more. */
async function usable(store: string, key: string): Promise<Template | undefined> {
  const template = findTemplate(store, key);
  if (template === undefined || (await whyUnusable(template.dir)) === undefined) return template;
  disown(template.dir);
  return undefined;
}

/** Makes templates in the background, one after the other. */
export class BackgroundTemplates {
  private readonly over = new AbortController();
  private readonly asked = new Set<string>();
  private last: Promise<void> = Promise.resolve();

  /** Once for each key; what comes of it is for a log. */
  make(request: TemplateRequest, log: (text: string) => void): void {
    const key = templateKeyOf(request);
    if (this.asked.has(key)) return;
    this.asked.add(key);
    const options = { signal: this.over.signal, progress: () => {}, background: true };
    this.last = this.last.then(async () => {
      try {
        if (!this.over.signal.aborted) await ensureTemplate(request, options);
      } catch (error) {
        if (this.over.signal.aborted) return;
        const details = error instanceof TsvError ? error.details : [];
        log([errorText(error), ...details].join('\n  '));
      }
    });
  }

  /** Leaves what is under way; nothing of it stays. */
  async close(): Promise<void> {
    this.over.abort();
    await this.last;
  }
}

function failure({ box, machine }: TemplateRequest, cause: unknown): TsvError {
  const details = cause instanceof TsvError ? [cause.message, ...cause.details] : errorText(cause).split('\n');
  return new TsvError('TSV_TEMPLATE', `no template of ${box.name} could be made`, {
    details: [`for ${machine.memoryBytes / 2 ** 20}M and ${machine.cpus} CPUs`, ...details],
    hint: 'machines boot cold without it; tsv store usage shows what takes the room',
    cause,
  });
}

async function make(request: TemplateRequest, key: string, dir: string, options: MakeOptions): Promise<void> {
  const { box, machine, accel } = request;
  if (box.disk === undefined) throw new Error(`the box ${box.name} has no disk`);
  const disk = join(dir, templateFiles.disk);
  const blank = (index: number) => join(dir, `blank-${index}`);
  await createImage(disk, ['-F', box.disk.format, '-b', box.disk.path], box.disk.virtualBytes);
  for (const [index, { sizeBytes }] of machine.disks.entries()) await createImage(blank(index), [], sizeBytes);
  const nobody = { login: generateKeyPair('template'), host: generateKeyPair('template'), machineId: '' };
  const files = identityFiles(nobody, box.user, 'template', { search: '.', nameServers: [] });
  const [credentialFile = ''] = writeCredentials(join(dir, 'credentials'), credentials(files));
  const places = { disk, memory: join(dir, templateFiles.memory), credentials: credentialFile, blank };
  const spec = templateSpec(machine, box, accel, places);
  const belongings = {
    own: spec.disks.map(({ path }) => path),
    secrets: spec.smbiosStrings,
    shared: [box.disk.path, ...bootFiles(box)],
  };
  options.progress('booting');
  const own = join(dir, 'own');
  mkdirSync(own, { mode: 0o700 });
  const qemu = await startForTemplate({ spec, folder: dir, cwd: own, belongings }, options);
  try {
    await qemu.unlessItEnds(freeze(qemu, { ...options, own, file: join(dir, templateFiles.devices) }));
  } catch (error) {
    const said = qemu.said().split('\n').slice(-8);
    throw new Error([errorText(error), ...said].join('\n').trim(), { cause: error });
  } finally {
    await qemu.end();
  }
  for (const [index] of machine.disks.entries()) rmSync(blank(index));
  for (const folder of ['credentials', 'own']) rmSync(join(dir, folder), { recursive: true });
  options.progress('saving');
  await sealTemplate(dir, {
    key,
    box: box.name,
    boxDigest: box.digest,
    accel,
    memoryBytes: machine.memoryBytes,
    cpus: machine.cpus,
    madeAt: new Date().toISOString(),
  });
}

/** Boots, waits for rest, saves. */
async function freeze(
  qemu: TemplateQemu,
  { signal, progress, own, file }: MakeOptions & { readonly own: string; readonly file: string },
): Promise<void> {
  const qmp = await converseQmp(qemu.qmp, answerMs);
  const guest = converseGuest(qemu.guest);
  // Nothing is in reach while it is nobody.
  for (let index = 0; index < qemu.nics; index++) await qmp.execute('set_link', { name: `net${index}`, up: false });
  await qmp.execute('cont');
  if (!(await guest.ready(bootMs)))
    throw new Error("the guest's own program did not begin: the box has none, or it hangs");
  await guest.ask([['prepare']], answerMs);
  progress('waiting until it is at rest');
  await untilAtRest(qemu.pid, signal);
  await qmp.execute('stop');
  await saveDevices(qmp, { own, file, uid: qemu.uid });
}
