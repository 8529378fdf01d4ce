import { mendCommands } from '../../model/mend.ts';
import type { Requirement } from '../../model/provider.ts';
import { type Style, style, symbolsOf, type Terminal } from './terminal.ts';
import { count, displayWidth, harmless, padEnd } from './text.ts';

type Look = Pick<Terminal, 'colour' | 'unicode'>;

/** One line per requirement, then the commands that mend what is missing, ready to paste; a line break at the end. */
export function renderDoctor(requirements: readonly Requirement[], terminal: Look): string {
  const symbols = symbolsOf(terminal);
  const width = Math.max(0, ...requirements.map(({ description }) => displayWidth(harmless(description))));
  const lines = requirements.map(({ ok, required, description, detail }) => {
    const [symbol, look]: [string, Style] = ok
      ? [symbols.done, 'green']
      : required
        ? [symbols.failed, 'red']
        : [symbols.skipped, 'yellow'];
    const text = `${padEnd(harmless(description), width)}  ${style(terminal, harmless(detail), 'dim')}`;
    return `${style(terminal, symbol, look)} ${text}`.trimEnd();
  });
  return `${[...lines, '', ...verdict(requirements), ...mending(requirements)].join('\n')}\n`;
}

function verdict(requirements: readonly Requirement[]): string[] {
  const missing = requirements.filter(({ ok }) => !ok);
  const needed = missing.filter(({ required }) => required).length;
  const helpful = missing.length - needed;
  if (missing.length === 0) return ['everything is there'];
  return [
    [
      ...(needed === 0 ? [] : [`${count(needed, 'thing')} missing`]),
      ...(helpful === 0 ? [] : [`${count(helpful, 'thing')} that would help`]),
    ].join(', '),
  ];
}

function mending(requirements: readonly Requirement[]): string[] {
  const commands = mendCommands(requirements).map((command) => harmless(command));
  return commands.length === 0 ? [] : ['to mend:', '', ...commands.map((command) => `  ${command}`)];
}
