import { MS, O, RESOLVE } from '../sys/flags.ts';
import type { Step, Word } from '../sys/program.ts';
import { makeFile, openInRoot } from './paths.ts';

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

const TIOCSCTTY = 0x540e;
const TIOCSWINSZ = 0x5414;
const TIOCGPTPEER = 0x5441;
const TIOCSPTLCK = 0x40045431;

/** Opens a new terminal and hands its master out. The slave is reached by its master only, never by a path. */
export function openTerminal(request: TerminalRequest): Step[] {
  return [
    { call: 'openat2', args: [-100, 'dev/pts/ptmx', { bytes: openPtmx }, 24], as: 'ptmx', note: '/dev/pts/ptmx' },
    { call: 'dup3', args: [{ result: 'ptmx' }, { fd: 'master' }, O.CLOEXEC] },
    { call: 'close', args: [{ result: 'ptmx' }] },
    { call: 'ioctl', args: [{ fd: 'master' }, TIOCSPTLCK, { bytes: new Uint8Array(8) }] },
    {
      call: 'ioctl',
      args: [{ fd: 'master' }, TIOCGPTPEER, O.RDWR | O.NOCTTY | O.CLOEXEC],
      as: 'slave',
      note: 'TIOCGPTPEER',
    },
    { call: 'dup3', args: [{ result: 'slave' }, { fd: 'slave' }, O.CLOEXEC] },
    { call: 'close', args: [{ result: 'slave' }] },
    ...(request.size === undefined
      ? []
      : [{ call: 'ioctl', args: [{ fd: 'master' }, TIOCSWINSZ, { bytes: windowSize(request.size) }] } satisfies Step]),
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

/** struct open_how for the multiplexer: no link leads to it. */
const openPtmx = Buffer.alloc(24);
openPtmx.writeBigUInt64LE(BigInt(O.RDWR | O.NOCTTY | O.CLOEXEC), 0);
openPtmx.writeBigUInt64LE(BigInt(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS), 16);

/** struct winsize; each number has 16 bits. */
export function windowSize({ width, height }: { width: number; height: number }): Buffer {
  const size = Buffer.alloc(8);
  size.writeUInt16LE(Math.min(height, 0xffff), 0);
  size.writeUInt16LE(Math.min(width, 0xffff), 2);
  return size;
}

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
  { call: 'ioctl', args: [{ fd: 'slave' }, TIOCSCTTY, 0], note: 'TIOCSCTTY' },
  { call: 'close', args: [{ fd: 'master' }] },
  { call: 'close', args: [{ fd: 'slave' }] },
];
