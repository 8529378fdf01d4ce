import { inspectMachines } from '../../app/inspect.ts';
import { select, textOf } from '../../app/select.ts';
import type { Handler } from '../program.ts';
import { jsonLine, jsonText } from '../render/json.ts';
import { harmlessLines } from '../render/text.ts';

export const inspect: Handler<{ format?: string; json?: boolean }> = async ({ place, stdout }, names, options) => {
  const { format } = options;
  const machines = await inspectMachines(place, names);
  if (format === undefined) {
    stdout.write(`${jsonText(machines)}\n`);
    return 0;
  }
  const found = machines.map((machine) => select(format, machine));
  const texts = options.json === true ? found.map(jsonLine) : found.map(textOf);
  // A program gets what is there; a terminal would take some of it for commands.
  for (const text of texts) stdout.write(`${stdout.isTTY === true ? harmlessLines(text).join('\n') : text}\n`);
  return 0;
};
