import { describe, expect, test } from 'vitest';
import { consoleSession } from '../../../providers/kvm/attach.ts';
import type { Console } from '../../../providers/kvm/console.ts';
import { until } from '../../support/until.ts';

/** A console whose machine prints, takes input and ends as the test says. */
function machine() {
  const listeners = new Set<(data: Buffer) => void>();
  const typed: string[] = [];
  let end = (): void => {};
  const closed = new Promise<void>((resolve) => {
    end = resolve;
  });
  const console: Console = {
    lastLines: () => [],
    follow(listener) {
      listeners.add(listener);
      return () => void listeners.delete(listener);
    },
    write(data, done) {
      typed.push(String(data));
      done();
    },
    printed: closed,
    panic: () => undefined,
    closed,
    close: end,
  };
  const print = (text: string) => {
    for (const listener of listeners) listener(Buffer.from(text));
  };
  return { console, print, typed, end, listeners };
}

describe('a console that somebody is attached to', () => {
  test('gives all that is printed from then on to all of them, and takes what each types', async () => {
    const { console, print, typed, end } = machine();
    print('before');
    const sessions = [1, 2].map(() => consoleSession(console, Promise.resolve()));
    const seen = sessions.map(({ stdout }) => {
      const texts: string[] = [];
      stdout.on('data', (data: Buffer) => texts.push(String(data)));
      return texts;
    });
    print('one\r\n');
    for (const [index, { stdin }] of sessions.entries()) stdin.write(`by ${index}`);
    print('\xff two');
    end();
    for (const { exited } of sessions) expect(await exited).toEqual({ code: 0 });
    expect(seen.map((texts) => texts.join(''))).toEqual(['one\r\n\xff two', 'one\r\n\xff two']);
    expect(typed).toEqual(['by 0', 'by 1']);
  });

  test('is let go by one of them, whatever waits, and works on for the others', async () => {
    const { console, print, listeners } = machine();
    const [leaving, staying] = [consoleSession(console, Promise.resolve()), consoleSession(console, Promise.resolve())];
    print('unread');
    leaving.signal('HUP');
    expect(await leaving.exited).toEqual({ code: 0 });
    leaving.stdin.write('late');
    expect(listeners.size).toBe(1);
    print('more');
    let seen = '';
    staying.stdout.on('data', (data: Buffer) => (seen += String(data)));
    await until('it has been read', () => seen === 'unreadmore');
  });

  test('does not pile up output for who does not read it, and says how much is missing', async () => {
    const { console, print, end } = machine();
    const session = consoleSession(console, Promise.resolve());
    const piece = 'x'.repeat(1 << 20);
    for (let n = 0; n < 10; n++) print(piece);
    expect(session.stdout.readableLength).toBeLessThan(6 << 20);
    const kept = session.stdout.readableLength;
    let seen = 0;
    let errors = '';
    session.stderr.on('data', (data: Buffer) => (errors += String(data)));
    session.stdout.on('data', (data: Buffer) => (seen += data.length));
    await until('it has been read', () => seen === kept);
    print('after');
    end();
    await session.exited;
    expect(seen).toBe(kept + 5);
    expect(errors).toContain(`[${(10 << 20) - kept} bytes of output are left out here`);
  });
});
