import { describe, expect, test } from 'vitest';
import { DetachKeys, defaultDetachKeys, parseDetachKeys } from '../../../src/cli/detach-keys.ts';
import { random, seeds } from '../plan/random.ts';

describe('the keys that detach', () => {
  test.each([
    [defaultDetachKeys, [16, 17]],
    ['ctrl-]', [29]],
    ['ctrl-A,d', [1, 100]],
    ['ctrl-@,ctrl-\\,~,.', [0, 28, 126, 46]],
  ])('%s are %j', (text, keys) => {
    expect([...(parseDetachKeys(text) ?? [])]).toEqual(keys);
  });

  test.each(['', 'ctrl-', 'ctrl-1', 'ab', 'a,', 'ctrl-p ctrl-q', 'ü'])('are not %j', (text) => {
    expect(parseDetachKeys(text)).toBeUndefined();
  });
});

describe('what is typed', () => {
  const typed = (keys: string, ...pieces: string[]) => {
    const found = new DetachKeys(Buffer.from(keys));
    let sent = '';
    for (const piece of pieces) {
      const { send, detached } = found.take(Buffer.from(piece));
      sent += send;
      if (detached) return `${sent}!`;
    }
    return sent;
  };

  test('is sent, but for the keys that detach and what follows them', () => {
    expect(typed('pq', 'ls\r', 'a', 'b')).toBe('ls\rab');
    expect(typed('pq', 'lspqx')).toBe('ls!');
    expect(typed('pq', 'p', 'q')).toBe('!');
  });

  test('waits when it could be the beginning of them, and is sent when it was not', () => {
    expect(typed('pq', 'p')).toBe('');
    expect(typed('pq', 'p', 'x')).toBe('px');
    expect(typed('pq', 'p', 'p', 'q')).toBe('p!');
    expect(typed('aab', 'a', 'a', 'a', 'b')).toBe('a!');
    expect(typed('~.', '~', '~', '.')).toBe('~!');
  });

  test('is the same in whatever pieces it comes', () => {
    for (const seed of seeds(200)) {
      const { below } = random(seed);
      const word = (length: number) => Array.from({ length }, () => 'ab'[below(2)]).join('');
      const [keys, all] = [word(1 + below(4)), word(below(30))];
      const pieces = [];
      for (let at = 0; at < all.length; ) {
        const size = 1 + below(4);
        pieces.push(all.slice(at, at + size));
        at += size;
      }
      const at = all.indexOf(keys);
      const sent = typed(keys, ...pieces);
      if (at >= 0) expect(sent, `seed ${seed}`).toBe(`${all.slice(0, at)}!`);
      else expect(all.startsWith(sent) && keys.startsWith(all.slice(sent.length)), `seed ${seed}`).toBe(true);
    }
  });
});
