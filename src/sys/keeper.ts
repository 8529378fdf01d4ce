import { elfExecutable } from './elf.ts';
import { AT, SIGCHLD } from './flags.ts';
import { memoryFile } from './fork.ts';
import type { Program, Step } from './program.ts';

/** The machine code of keeper.s. */
export const keeperCode = Buffer.from(
  '4881ec20000100b808000000bf0100000031f6ba020000000f054989c64885c079034531f631c031ff4889e6ba000001000f054883f8fc74ec48' +
    '85c00f8eca0000004989c44989e5498d0c064881f90000000176384d85f67433488d35420100004c8d1547010000bb01000000e8e4000000488d' +
    '35440100004c8d154b010000bb03000000e8cc0000004531f6b8e400000031ff488db424100001000f05486984241000010000ca9a3b48038424' +
    '180001004c89b424000001004889842408000100b801000000bf03000000488db42400000100ba100000000f05b801000000bf010000004c89ee' +
    '4c89e20f054883f8fc74e84885c00f8e29ffffff4901c64901c54929c475d4e919ffffffb83d00000048c7c7ffffffff488db4240000010031d2' +
    '4531d20f054883f8fc74df4885c07e1bb801000000bf04000000488db42400000100ba040000000f05ebbfb8e700000031ff0f054989f7b80801' +
    '0000bf05000000ba050000000f05b801010000bf050000004c89feba41040a0041ba800100000f054885c078194889c7b8210000004989ff89de' +
    '0f05b8030000004c89ff0f05c3636f6e736f6c652e6c6f6700636f6e736f6c652e6c6f672e3100636f6e736f6c652e74696d657300636f6e736f' +
    '6c652e74696d65732e3100',
  'hex',
);

/** What a machine's keeper works with; the descriptors stay the caller's. */
export interface Keeper {
  /** The end of a pipe that the machine prints into; /dev/null for one that prints nothing. */
  readonly input: number;
  /** console.log and console.times, opened to append, and `exit`, empty. */
  readonly log: number;
  readonly times: number;
  readonly exit: number;
  /** The folder that these lie in. */
  readonly folder: number;
  /** Of the environment variable TSV_ID, by which people find processes of a project. */
  readonly label?: string;
}

const places = ['input', 'log', 'log', 'times', 'exit', 'folder'] as const;

let executable: number | undefined;

/** Descriptors for {@link underKeeper}. */
export function keeperFds(keeper: Keeper): Program['fds'] {
  executable ??= memoryFile('tsv-keeper', elfExecutable(keeperCode));
  return {
    keeper: executable,
    ...Object.fromEntries(places.map((place) => [`keeper-${place}`, keeper[place]])),
  };
}

/**
 * What follows runs in a child, whose pid is reported as `kept`. The process itself becomes the keeper: it keeps what the
 * child prints and how it ends, whether or not somebody else is still there.
 * @param builder the child only makes another child of the keeper (CLONE_PARENT), and ends
 */
export function underKeeper({ label }: Pick<Keeper, 'label'>, { builder }: { readonly builder: boolean }): Step[] {
  const [P_PID, WEXITED] = [1, 4];
  return [
    {
      fork: SIGCHLD,
      as: 'kept',
      parent: [
        { report: 'kept', value: 'kept' },
        { call: 'setsid', args: [] },
        { call: 'chdir', args: ['/'] },
        ...places.map((place, i): Step => ({ call: 'dup3', args: [{ fd: `keeper-${place}` }, i, 0] })),
        ...(builder
          ? [{ call: 'waitid', args: [P_PID, { result: 'kept' }, 0, WEXITED, 0], mode: 'may' } satisfies Step]
          : []),
        { call: 'rt_sigprocmask', args: [2, { bytes: new Uint8Array(8) }, 0, 8] },
        {
          call: 'execveat',
          args: [
            { fd: 'keeper' },
            '',
            { strings: ['tsv-keeper'] },
            { strings: label === undefined ? [] : [`TSV_ID=${label}`] },
            AT.EMPTY_PATH,
          ],
        },
      ],
    },
  ];
}
