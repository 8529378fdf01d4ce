import { appendFileSync, existsSync, mkdirSync, renameSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { timesRecord } from '../../src/sys/console-times.ts';

/** Writes a machine's output as its logger does: for each chunk its time first. */
export class ConsoleFiles {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
    mkdirSync(dir, { recursive: true });
  }

  /** @param ns nanoseconds since 1970; absent: as an older version did, without times */
  print(text: string | Buffer, ns?: number | bigint): this {
    const log = join(this.dir, 'console.log');
    const size = statSync(log, { throwIfNoEntry: false })?.size ?? 0;
    if (ns !== undefined && text.length > 0)
      appendFileSync(join(this.dir, 'console.times'), timesRecord(size, BigInt(ns)));
    appendFileSync(log, text);
    return this;
  }

  /** The log is renamed before its times. `halfway`: the times still have their old name. */
  rotate({ halfway = false } = {}): this {
    renameSync(join(this.dir, 'console.log'), join(this.dir, 'console.log.1'));
    const times = join(this.dir, 'console.times');
    if (!halfway && existsSync(times)) renameSync(times, join(this.dir, 'console.times.1'));
    return this;
  }
}
