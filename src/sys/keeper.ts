import { elfExecutable } from './elf.ts';
import { AT, SIGCHLD } from './flags.ts';
import { memoryFile } from './fork.ts';
import type { Program, Step } from './program.ts';

/** The machine code of keeper.s. */
export const keeperCode = Buffer.from(
  '4881ec3000010048c784242800010000000000bf03000000e8890100004889842420000100bf01000000e8770100004989c631c031ff4889' +
    'e6ba000001000f054883f8fc74ec4885c00f8e0d0100004989c44989e5b90000000148398c2420000100730d4c01f04839c876484d85f674' +
    '43488d35910100004c8d1596010000bb01000000e833010000488d35930100004c8d159a010000bb03000000e81b0100004531f64c89b424' +
    '200001004c89b42428000100b8e400000031ff488db424100001000f05486984241000010000ca9a3b48038424180001004889c1482b8c24' +
    '280001004881f940420f00723e48898424280001004c89b424000001004889842408000100b801000000bf03000000488db42400000100ba' +
    '100000000f054885c078084801842420000100b801000000bf010000004c89ee4c89e20f054883f8fc74e84885c00f8ee6feffff4901c649' +
    '01c54929c475d4e9d6feffffb83d00000048c7c7ffffffff488db4240000010031d24531d20f054883f8fc74df4885c07e1bb801000000bf' +
    '04000000488db42400000100ba040000000f05ebbfb8e700000031ff0f05b80800000031f6ba020000000f054885c0790231c0c34989f7b8' +
    '08010000bf05000000ba050000000f05b801010000bf050000004c89feba41040a0041ba800100000f054885c078194889c7b82100000049' +
    '89ff89de0f05b8030000004c89ff0f05c3636f6e736f6c652e6c6f6700636f6e736f6c652e6c6f672e3100636f6e736f6c652e74696d6573' +
    '00636f6e736f6c652e74696d65732e3100',
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
