/**
 * FNV-1a, 64 bits, in hex (draft-eastlake-fnv). To tell a user's own folders apart; not for anything that an enemy
 * chooses. Node's crypto would cost every command two milliseconds just to load.
 */
export function fnv1a(text: string): string {
  let hash = 0xcbf29ce484222325n;
  for (const byte of Buffer.from(text)) hash = ((hash ^ BigInt(byte)) * 0x100000001b3n) & 0xffffffffffffffffn;
  return hash.toString(16).padStart(16, '0');
}

/** `NAME.<16 hex>.tmp`, which no other process or call takes at the same time. */
export const temporaryNameOf = (name: string): string =>
  `${name}.${fnv1a(`${process.pid} ${process.hrtime.bigint()}`)}.tmp`;
