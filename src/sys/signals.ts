import { constants } from 'node:os';

/** 15 for `TERM` and `SIGTERM`; 0 for what is no signal's name (signal 0 does nothing). */
export function signalNumber(name: string): number {
  const full = name.startsWith('SIG') ? name : `SIG${name}`;
  return (constants.signals as Readonly<Record<string, number>>)[full] ?? 0;
}

/** `TERM` for 15. */
export function signalName(number: number): string {
  const entry = Object.entries(constants.signals).find(([, value]) => value === number);
  return entry?.[0].slice(3) ?? String(number);
}
