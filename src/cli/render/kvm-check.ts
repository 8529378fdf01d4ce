import type { KvmCall, KvmCheck, KvmCheckStep } from '../../app/kvm-check.ts';
import { type Cell, renderTable } from './table.ts';
import { type Style, symbolsOf, type Terminal } from './terminal.ts';
import { harmless } from './text.ts';

type Look = Pick<Terminal, 'isTTY' | 'columns' | 'colour' | 'unicode'>;

/** A row for each step, with `verbose` one for each of its calls, then what came out and what mends it. */
export function renderKvmCheck(check: KvmCheck, verbose: boolean, terminal: Look): string {
  const symbols = symbolsOf(terminal);
  const marks: Readonly<Record<KvmCheckStep['result'], Cell>> = {
    ok: { text: symbols.done, style: 'green' satisfies Style },
    failed: { text: symbols.failed, style: 'red' satisfies Style },
    'not tried': { text: symbols.skipped, style: 'dim' satisfies Style },
  };
  const rows = check.steps.flatMap(({ what, result, ms, detail, calls }): Cell[][] => [
    [marks[result], what, ms === undefined ? '' : formatMs(ms), result === 'not tried' ? result : detail],
    ...(verbose ? calls.map(callRow) : []),
  ]);
  return `${renderTable(['', 'STEP', 'TIME', 'RESULT'], rows, terminal)}\n${verdict(check)}`;
}

/** `KVM_CREATE_VM (0xae01)`, its time, `= 5`. */
function callRow({ name, request, result, ms, note }: KvmCall): Cell[] {
  const call = request === undefined ? name : `${name} (0x${request.toString(16)})`;
  const gave = typeof result === 'number' ? (name === 'mmap' ? `0x${result.toString(16)}` : result) : result.errno;
  return ['', `  ${call}`, formatMs(ms), `  = ${gave}${note === undefined ? '' : `  ${note}`}`];
}

function verdict({ ms, failure }: KvmCheck): string {
  if (failure === undefined) {
    return (
      `KVM can be used: guests ran on it, in ${formatMs(ms)} altogether.\n` +
      'Whether a kernel boots on it, the first start of a virtual machine tries: see tsv status and tsv doctor.\n'
    );
  }
  const isMade = failure.step !== 'start';
  const first = `${isMade ? 'KVM cannot be used' : 'KVM could not be checked'}: ${failure.what}`;
  const lines = [first, failure.why, ...(failure.mend === undefined ? [] : ['to mend:', ...failure.mend.split('\n')])];
  return lines.map((line, index) => `${index > 2 ? '  ' : ''}${harmless(line)}\n`).join('');
}

/** `0.021 ms`, `12.3 ms`, `2001 ms`. */
const formatMs = (ms: number): string => `${ms.toFixed(ms < 10 ? 3 : ms < 1000 ? 1 : 0)} ms`;
