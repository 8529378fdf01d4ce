import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { templateFiles } from '../../src/store/template/layout.ts';
import { givesUsers, takeUser } from '../../src/sys/own-user.ts';
import { type QemuSpec, qemuArguments } from './arguments.ts';
import { openedTaps, type QemuBelongings, qemuJail } from './jail.ts';
import { type QemuOptions, startTemplateQemu, type TemplateQemu } from './template-qemu.ts';

export interface TemplateStart {
  readonly spec: QemuSpec;
  /** Where `memory` of the template comes to lie: made here. */
  readonly folder: string;
  /** There, and empty: QEMU makes and finds sockets in it. */
  readonly cwd: string;
  /** Where QEMU gets a user of its own: what that one is to reach, beside the memory. */
  readonly belongings: Omit<QemuBelongings, 'root' | 'folders' | 'memory' | 'accel'>;
  /** It gets the user that another QEMU has. */
  readonly uid?: number;
}

/** Starts the QEMU that a template's memory is that of. @throws TSV_HOST_MISSING, TSV_SYSCALL */
export async function startForTemplate(
  { spec, folder, cwd, belongings, uid }: TemplateStart,
  options: QemuOptions,
): Promise<TemplateQemu> {
  const user = !givesUsers() ? undefined : uid === undefined ? takeUser(folder) : { uid, release: () => {} };
  try {
    if (user === undefined) return await startTemplateQemu({ argv: qemuArguments(spec), cwd }, options);
    const memory = join(folder, templateFiles.memory);
    writeFileSync(memory, '', { flag: 'wx', mode: 0o600 });
    const { taps, nics } = openedTaps(spec.nics.map(({ backend }) => backend));
    const own = { ...spec, nics: spec.nics.map((nic, index) => ({ ...nic, backend: nics[index] ?? nic.backend })) };
    const jail = qemuJail(user.uid, {
      ...belongings,
      own: [...belongings.own, memory],
      folders: [cwd],
      root: folder,
      accel: spec.accel,
    });
    return await startTemplateQemu({ argv: qemuArguments(own), cwd, own: { jail, taps } }, options);
  } finally {
    user?.release();
  }
}
