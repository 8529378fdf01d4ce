// A program for tests: `writer DIR COUNT` writes the state COUNT times and prints each serial that is durable.
import type { State } from '../../../src/model/state.ts';
import { newState, readState, writeState } from '../../../src/state/store.ts';

const [dir = '', count = '1'] = process.argv.slice(2);
let state: State = readState(dir) ?? newState(dir);
try {
  for (let left = Number(count); left > 0; left--) {
    state = await writeState(dir, state);
    process.stdout.write(`${state.serial}\n`);
  }
} catch (error) {
  process.stdout.write(`${JSON.stringify(error)}\n`);
  process.exitCode = 1;
}
