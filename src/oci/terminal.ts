import { MS, O, RESOLVE } from '../sys/flags.ts';
import type { Step, Word } from '../sys/program.ts';
import { TIOC, windowSize } from '../sys/terminal.ts';
import { keepAs, makeFile, openHow, openInRoot } from './paths.ts';

/** A terminal for the container's process, from its own devpts: ioctl_tty(2). */
export interface TerminalRequest {
  readonly size?: { readonly width: number; readonly height: number };
  /** The program has a descriptor `console`: a socket to send the master to (SCM_RIGHTS). */
  readonly console: boolean;
  /** Show it as /dev/console too: for PID 1. */
  readonly devConsole: boolean;
}

/** Descriptors that a program with a terminal needs. */
export const terminalPlaces = { master: -1, slave: -1 } as const;

/** Opens a new terminal and hands its master out. The slave is reached by its master only, never by a path. */
export function openTerminal(request: TerminalRequest): Step[] {
  return [
    { call: 'openat2', args: [-100, 'dev/pts/ptmx', { bytes: openPtmx }, 24], as: 'ptmx', note: '/dev/pts/ptmx' },
    ...keepAs('ptmx', 'master'),
    { call: 'ioctl', args: [{ fd: 'master' }, TIOC.SPTLCK, { bytes: new Uint8Array(8) }] },
    {
      call: 'ioctl',
      args: [{ fd: 'master' }, TIOC.GPTPEER, O.RDWR | O.NOCTTY | O.CLOEXEC],
      as: 'slave',
      note: 'TIOCGPTPEER',
    },
    ...keepAs('slave', 'slave'),
    ...(request.size === undefined
      ? []
      : [{ call: 'ioctl', args: [{ fd: 'master' }, TIOC.SWINSZ, { bytes: windowSize(request.size) }] } satisfies Step]),
    ...(request.devConsole
      ? [
          ...makeFile('/dev/console'),
          ...openInRoot('/dev/console', O.PATH, { resolve: RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS }),
          {
            call: 'mount',
            args: [{ fdPath: 'slave' }, { fdPath: 'dir' }, '', MS.BIND, 0],
            note: '/dev/console',
          } satisfies Step,
        ]
      : []),
    ...(request.console ? sendMaster : []),
    ...(['stdin', 'stdout', 'stderr'] as const).map(
      (name): Step => ({ call: 'dup3', args: [{ fd: 'slave' }, { fd: name }, O.CLOEXEC] }),
    ),
  ];
}

/** No link leads to the multiplexer. */
const openPtmx = openHow(O.RDWR | O.NOCTTY, RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS);

const SOL_SOCKET = 1n;
const SCM_RIGHTS = 1n;
const name = Buffer.from('/dev/ptmx');
/** struct msghdr with one struct iovec and one struct cmsghdr (unix(7), cmsg(3)). */
const message: readonly Word[] = [
  0,
  0,
  { words: [{ bytes: name }, name.length] },
  1,
  { words: [20, SOL_SOCKET | (SCM_RIGHTS << 32n), { fd: 'master' }] },
  24,
  0,
];
const sendMaster: readonly Step[] = [
  { call: 'sendmsg', args: [{ fd: 'console' }, { words: message }, 0], note: 'the terminal to the console socket' },
  { call: 'close', args: [{ fd: 'console' }] },
];

/** The terminal of the process's session: setsid(2) has been called. */
export const controlTerminal: readonly Step[] = [
  { call: 'ioctl', args: [{ fd: 'slave' }, TIOC.SCTTY, 0], note: 'TIOCSCTTY' },
  { call: 'close', args: [{ fd: 'master' }] },
  { call: 'close', args: [{ fd: 'slave' }] },
];
