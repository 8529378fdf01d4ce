import { randomBytes, randomUUID } from 'node:crypto';
import { createConnection, type Socket } from 'node:net';
import type { MachineAddress } from '../../src/model/state.ts';
import { asUuid, type Identity } from '../../src/ssh/identity.ts';

/** One thing to ask of the guest's own program: a word, and words without spaces. docs/kvm.md has them all. */
export type GuestRequest = readonly [request: string, ...words: readonly string[]];

/** A file of the guest's that makes it this machine. */
export interface GuestFile {
  readonly path: string;
  /** Octal. */
  readonly mode: string;
  /** User whose it is, and whose group. */
  readonly owner: string;
  /** Absent: it is a folder. */
  readonly text?: string;
}

/** The conversation with the box's program in the guest. */
export interface Guest {
  /** Asks for these, in order, and waits for the answers. @throws Error with the guest's words, or when it does not answer */
  ask(requests: readonly GuestRequest[], timeoutMs: number): Promise<void>;
  /** Resolves when the program has begun, which it says once; false: not in this time, or the machine ended. */
  ready(timeoutMs: number): Promise<boolean>;
  close(): void;
}

/** What a guest answers is a line; this much of one is enough to tell. */
const longestLine = 4096;

/** Connects to the guest's port, which QEMU serves to one at a time. @throws the connect error of the socket */
export async function connectGuest(path: string): Promise<Guest> {
  const socket = createConnection({ path });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', reject);
  });
  return converseGuest(socket);
}

/** The same over a socket that is connected. */
export function converseGuest(socket: Socket): Guest {
  const waiting = new Map<string, (answer: string) => void>();
  let lastId = 0;
  let isReady = false;
  let tellReady = () => {};
  const begun = new Promise<void>((resolve) => {
    tellReady = resolve;
  });
  const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
  socket.on('error', () => {}); // `closed` tells
  let rest = '';
  socket.setEncoding('utf8').on('data', (text: string) => {
    const lines = (rest + text).split('\n');
    rest = (lines.pop() ?? '').slice(-longestLine);
    for (const line of lines) {
      if (line === 'ready') {
        isReady = true;
        tellReady();
        continue;
      }
      const [id = ''] = line.split(' ', 1);
      waiting.get(id)?.(line.slice(id.length + 1));
      waiting.delete(id);
    }
  });
  return {
    async ask(requests, timeoutMs) {
      const answers = requests.map(() => {
        const id = String(++lastId);
        return { id, answer: new Promise<string>((resolve) => waiting.set(id, resolve)) };
      });
      const lines = requests.map((words, index) => `${[answers[index]?.id, ...words].join(' ')}\n`);
      socket.write(lines.join(''));
      const all = Promise.all(answers.map(({ answer }) => answer));
      const said = await first(all, closed, timeoutMs);
      for (const { id } of answers) waiting.delete(id);
      if (said === undefined) throw new Error(`the guest's own program did not answer within ${timeoutMs} ms`);
      const refused = said.find((answer) => answer !== 'ok');
      if (refused !== undefined) throw new Error(`the guest: ${refused.slice(0, 200)}`);
    },
    ready: async (timeoutMs) =>
      isReady ||
      (await first(
        begun.then(() => true),
        closed,
        timeoutMs,
      )) === true,
    close: () => void socket.destroy(),
  };
}

/** What `work` gives, or undefined when the other is over or the time is up before. */
async function first<T>(work: Promise<T>, over: Promise<void>, timeoutMs: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => {
    timer = setTimeout(() => resolve(undefined), timeoutMs);
  });
  try {
    return await Promise.race([work, over.then(() => undefined), late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The host's time, and randomness that no other guest from the same memory has. For every guest that stood still. */
export function awakening(now: number = Date.now()): GuestRequest[] {
  const seconds = Math.floor(now / 1000);
  return [
    ['entropy', randomBytes(64).toString('hex')],
    ['clock', String(seconds), String((now - seconds * 1000) * 1_000_000)],
  ];
}

/** A machine's networks, as far as addresses go. */
export type Networks = Readonly<
  Record<string, { readonly gateway: string; readonly prefix: number; readonly mode: string }>
>;

/** Its network cards with their addresses; the first one with a way out has the gateway. Pure. */
export function cardsOf(addresses: readonly MachineAddress[], networks: Networks) {
  const wayOut = addresses.find(({ network }) => networks[network]?.mode === 'nat')?.network;
  return addresses.map(({ network, ...card }) => {
    const { gateway, prefix = 24 } = networks[network] ?? {};
    return { ...card, prefix, ...(network === wayOut && gateway !== undefined ? { gateway } : {}) };
  });
}

/** A whole identity: who went on from the memory of another is nobody else's clone after this. Ends with its network cards. */
export function becoming(who: {
  readonly identity: Identity;
  readonly hostname: string;
  readonly files: readonly GuestFile[];
  readonly addresses: readonly MachineAddress[];
  readonly networks: Networks;
}): GuestRequest[] {
  return [
    ...awakening(),
    ...who.files.map(
      ({ path, mode, owner, text }): GuestRequest =>
        text === undefined
          ? ['folder', path, mode, owner]
          : ['file', path, mode, owner, Buffer.from(text).toString('hex')],
    ),
    ['hostname', who.hostname],
    ['boot-id', randomUUID()],
    ['product-uuid', asUuid(who.identity.machineId)],
    ...cardsOf(who.addresses, who.networks).map(
      ({ device, mac, address, prefix, gateway }): GuestRequest => [
        ...(['nic', device, mac.replaceAll(':', ''), address, mask(prefix)] as const),
        ...(gateway === undefined ? [] : [gateway]),
      ],
    ),
  ];
}

/** `255.255.255.0` of 24. */
export const mask = (prefix: number): string =>
  [0, 8, 16, 24].map((shift) => 256 - 2 ** (8 - Math.min(8, Math.max(0, prefix - shift)))).join('.');
