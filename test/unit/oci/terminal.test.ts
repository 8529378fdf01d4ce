import { describe, expect, test } from 'vitest';
import { controlTerminal, openTerminal } from '../../../src/oci/terminal.ts';
import { O, RESOLVE } from '../../../src/sys/flags.ts';
import { windowSize } from '../../../src/sys/terminal.ts';
import { calls, expectOrder, lines } from './program-requests.ts';

const size = { width: 132, height: 43 };

describe('a terminal with a console', () => {
  const steps = openTerminal({ size, console: true, devConsole: true });
  const text = lines(steps);

  test('is this', async () => {
    await expect(`${[...text, ...lines(controlTerminal)].join('\n')}\n`).toMatchFileSnapshot('terminal.program.txt');
  });

  test('S6 comes from the multiplexer of the container, behind no link at all', () => {
    const how = calls(steps)[0]?.args[2];
    const bytes = typeof how === 'object' && 'bytes' in how ? Buffer.from(how.bytes) : Buffer.alloc(24);
    expect(Number(bytes.readBigUInt64LE(0))).toBe(O.RDWR | O.NOCTTY | O.CLOEXEC);
    expect(Number(bytes.readBigUInt64LE(16))).toBe(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS);
  });

  test('S6 its other end is reached by descriptor only, and bound from it', () => {
    expectOrder(
      text,
      /^openat2 -100 dev\/pts\/ptmx/,
      /^ioctl fd:master 1074025521/,
      /# TIOCGPTPEER/,
      /^mount @slave @dir '' MS_BIND/,
    );
    expect(text.join('\n')).not.toMatch(/dev\/pts\/\d/);
    const place = calls(steps).findLast(({ call, args }) => call === 'openat2' && args[1] === 'dev/console');
    const how = place?.args[2];
    const resolve = typeof how === 'object' && 'bytes' in how ? Number(Buffer.from(how.bytes).readBigUInt64LE(16)) : 0;
    expect(resolve).toBe(RESOLVE.BENEATH | RESOLVE.NO_SYMLINKS | RESOLVE.NO_MAGICLINKS);
  });

  test('is handed out, and the socket is let go of; nothing of the three is passed over', () => {
    const sent = text.findIndex((line) => line.startsWith('sendmsg fd:console'));
    expect(text[sent]).toContain(`{20 ${1n | (1n << 32n)} fd:master}`);
    expect(text[sent + 1]).toBe('close fd:console');
    expect(text.filter((line) => /sendmsg|ioctl|# \/dev\/console/.test(line) && line.includes('(may)'))).toEqual([]);
  });

  test('takes the place of standard input, output and error', () => {
    expect(text.slice(-3)).toEqual(['stdin', 'stdout', 'stderr'].map((name) => `dup3 fd:slave fd:${name} 524288`));
  });

  test('is of a session, and then neither end is held any more', () => {
    expect(lines(controlTerminal)).toEqual(['ioctl fd:slave 21518 0 # TIOCSCTTY', 'close fd:master', 'close fd:slave']);
  });
});

test('without a console and /dev/console nothing is sent or mounted, and without a size none is set', () => {
  const text = lines(openTerminal({ console: false, devConsole: false })).join('\n');
  for (const word of ['sendmsg', 'mount', '21524']) expect(text).not.toContain(word);
});

test('struct winsize has rows first; what does not fit 16 bits is the largest that does', () => {
  expect(windowSize(size)).toEqual(Buffer.from([43, 0, 132, 0, 0, 0, 0, 0]));
  expect(windowSize({ width: 70000, height: 65536 })).toEqual(Buffer.from([255, 255, 255, 255, 0, 0, 0, 0]));
});
