import { Sampler } from '../../app/stats.ts';
import { untilInterrupted } from '../interrupt.ts';
import type { Handler } from '../program.ts';
import { jsonLine } from '../render/json.ts';
import { createLive } from '../render/live.ts';
import { renderStats } from '../render/stats.ts';
import { readTerminal } from '../render/terminal.ts';

const everyMs = 1000;

export const stats: Handler<{ stream: boolean; json?: boolean }> = async (session, names, options) => {
  const { stdout, place } = session;
  const sampler = new Sampler(place, names);
  const terminal = () => readTerminal(stdout, place.env);
  const live = options.json === true || !options.stream ? undefined : createLive(stdout, terminal);
  const interrupted = untilInterrupted(session);
  let timer: NodeJS.Timeout | undefined;
  // What a machine uses shows between two looks.
  const ended = new Promise<number>((resolve, reject) => {
    timer = setInterval(() => {
      try {
        const usages = sampler.sample();
        if (options.json === true) for (const usage of usages) stdout.write(`${jsonLine(usage)}\n`);
        else if (live === undefined) stdout.write(renderStats(usages, terminal()));
        else live.show(renderStats(usages, terminal()));
        if (!options.stream) resolve(0);
      } catch (error) {
        reject(error);
      }
    }, everyMs);
  });
  try {
    return await Promise.race([ended, interrupted]);
  } finally {
    clearInterval(timer);
    live?.done();
  }
};
