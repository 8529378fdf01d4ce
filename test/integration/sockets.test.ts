import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { builtFile } from '../../src/app/place.ts';
import { SocketFactory } from '../../src/net/sockets.ts';

test('a socket thread can be ended at any moment of its beginning, and takes nobody along', async () => {
  const closed = [];
  for (let round = 0; round < 60; round++) {
    const sockets = new SocketFactory('/proc/self/ns/net', builtFile('parts/sockets-worker.js'));
    // From at once to after it has loaded.
    await pause(round);
    await sockets.close();
    closed.push(round);
  }
  expect(closed).toHaveLength(60);
});
