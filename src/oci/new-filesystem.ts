import type { CallStep, Step } from '../sys/program.ts';
import { keepAs } from './paths.ts';

const [FSOPEN_CLOEXEC, FSMOUNT_CLOEXEC] = [1, 1];
const [FSCONFIG_SET_FLAG, FSCONFIG_SET_STRING, FSCONFIG_CMD_CREATE] = [0, 1, 6];

/** A new file system that is nowhere mounted, into `tree` (fsopen(2), fsconfig(2), fsmount(2)). */
export function newFilesystem(
  type: string,
  about: {
    /** Of its own, as mount(2) takes them: `nsdelegate`, `context="…"`. */
    readonly options?: readonly string[];
    /** MOUNT_ATTR_* */
    readonly attributes?: number;
    readonly note?: string;
    /** What happens where the kernel refuses it; without this, the program ends there. */
    readonly otherwise?: readonly Step[];
  } = {},
): Step[] {
  const note = about.note === undefined ? {} : { note: about.note };
  const set = (option: string): Step => {
    const [, key = option, value] = /^([^=]+)="?(.*?)"?$/.exec(option) ?? [];
    const setting = value === undefined ? [FSCONFIG_SET_FLAG, key, 0] : [FSCONFIG_SET_STRING, key, value];
    return { call: 'fsconfig', args: [{ fd: 'file' }, ...setting, 0], ...note };
  };
  const create: CallStep = { call: 'fsconfig', args: [{ fd: 'file' }, FSCONFIG_CMD_CREATE, 0, 0, 0], ...note };
  const mounted = `mounted ${type}`;
  const mount: CallStep = {
    call: 'fsmount',
    args: [{ fd: 'file' }, FSMOUNT_CLOEXEC, about.attributes ?? 0],
    as: mounted,
    ...note,
  };
  const place = keepAs(mounted, 'tree');
  const { otherwise } = about;
  return [
    { call: 'fsopen', args: [type, FSOPEN_CLOEXEC], as: type, ...note },
    ...keepAs(type, 'file'),
    ...(about.options ?? []).map(set),
    ...(otherwise === undefined
      ? [create, mount, ...place]
      : [
          {
            try: create,
            unless: 'error',
            steps: [{ try: mount, unless: 'error', steps: place, otherwise }],
            otherwise,
          } satisfies Step,
        ]),
  ];
}
