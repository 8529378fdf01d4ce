import { elfExecutable } from '../../src/sys/elf.ts';

/*
 * PID 1 of a container without a command: reaps orphans; TERM, INT, QUIT or HUP make it pass TERM to everything inside
 * and end when the last process has. A complete program of 209 bytes of x86-64 code that needs nothing of the image:
 *
 *   block all signals; terminating = false
 *   loop: s = rt_sigtimedwait(all signals, terminating ? 10 ms : for ever)
 *     if s is TERM, INT, QUIT or HUP: terminating = true; kill(-1, TERM); kill(-1, CONT)
 *     while wait4(-1, WNOHANG | __WALL) > 0: go on
 *     if terminating and kill(-1, 0) says ESRCH: exit_group(0)
 *
 * It looks again every 10 ms, because commands that were started from outside are nobody's children in here: no signal
 * tells when the last of them has ended.
 */
const code = Buffer.from(
  '4883ec4048c70424ffffffff48c74424080000000048c7442410809698004531e4b80e000000bf020000004889e631d241ba080000000f05' +
    'b8800000004889e731f64c89e241ba080000000f0583f80f740f83f802740a83f803740583f801752b4c8d642408b83e00000048c7c7ffff' +
    'ffffbe0f0000000f05b83e00000048c7c7ffffffffbe120000000f05b83d00000048c7c7ffffffff31f6ba010000404531d20f054885c07f' +
    'e34d85e4748ab83e00000048c7c7ffffffff31f60f054883f8fd0f8570ffffffb8e700000031ff0f05',
  'hex',
);

/** The init as an executable. */
export const initExecutable = (): Buffer => elfExecutable(code);
