import { setTimeout as pause } from 'node:timers/promises';
import { balloonId } from './arguments.ts';
import { within } from './attachment.ts';
import { asObject, type Qmp } from './qmp.ts';

/** A guest that gives or takes no page for this long has no more to give, or no driver. */
const patienceMs = 5000;
/** For all of it: what then is still missing comes later. */
const longestMs = 30_000;

/** Bytes that the guest has now. @throws QmpError where there is no balloon */
export async function balloonBytes(qmp: Qmp): Promise<number> {
  return Number(asObject(await qmp.execute('query-balloon')).actual);
}

/** A guest with the driver answers within milliseconds, a busy one later. */
const answerMs = 3000;
const pauseMs = 20;

/**
 * Bytes that the guest could use without swapping (QEMU's docs/interop/virtio-balloon-stats). It is asked now; there is no
 * event for its answer. undefined: it does not say
 */
export async function availableBytes(qmp: Qmp, signal: AbortSignal, timeMs = answerMs): Promise<number | undefined> {
  const path = `/machine/peripheral/${balloonId}`;
  const poll = (value: number) => qmp.execute('qom-set', { path, property: 'guest-stats-polling-interval', value }, {});
  const read = async () => asObject(await qmp.execute('qom-get', { path, property: 'guest-stats' }));
  const before = Number((await read())['last-update'] ?? 0);
  await poll(1);
  try {
    for (const deadline = performance.now() + timeMs; performance.now() < deadline; await pause(pauseMs)) {
      signal.throwIfAborted();
      const answer = await read();
      if (Number(answer['last-update']) <= before) continue;
      const available = Number(asObject(answer.stats)['stat-available-memory']);
      return available >= 0 && available < 2 ** 63 ? available : undefined; // -1: not of this guest
    }
    return undefined;
  } finally {
    await poll(0);
  }
}

/**
 * Asks the guest to keep this much memory, and waits for what it does: page by page, in its own time (QEMU's
 * qapi/machine.json, `balloon` and BALLOON_CHANGE). The wish stays: what it cannot give now it gives when it can.
 * @returns bytes that it has in the end
 * @throws the signal's reason
 */
export async function balloonTo(
  qmp: Qmp,
  bytes: number,
  signal: AbortSignal,
  times = { patienceMs, longestMs },
): Promise<number> {
  let wake = () => {};
  let change = Promise.resolve();
  const renew = () => {
    change = new Promise((resolve) => {
      wake = resolve;
    });
  };
  renew();
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort, { once: true });
  const ignore = qmp.onEvent(({ event }) => {
    if (event === 'BALLOON_CHANGE') wake();
  });
  const deadline = performance.now() + times.longestMs;
  try {
    await qmp.execute('balloon', { value: bytes });
    for (;;) {
      signal.throwIfAborted();
      const actual = await balloonBytes(qmp);
      const left = Math.min(times.patienceMs, deadline - performance.now());
      if (actual === bytes || left <= 0) return actual;
      if (!(await within(change, left))) return balloonBytes(qmp);
      renew();
    }
  } finally {
    ignore();
    signal.removeEventListener('abort', onAbort);
  }
}
