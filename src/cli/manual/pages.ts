import type { EventEmitter } from 'node:events';
import type { Command } from 'commander';
import { type About, about } from './about.ts';

/** A term and what it means. */
export type Entry = readonly [term: string, meaning: string];

/** A page of the manual, or what it says of one command of a group. */
export interface Page {
  /** Such as `tsv image pull`. */
  readonly command: string;
  readonly summary: string;
  readonly usage: string;
  readonly text: readonly string[];
  readonly args: readonly Entry[];
  readonly options: readonly Entry[];
  /** What the help says below the options: lines as they are. */
  readonly notes: string;
  readonly examples: string;
  /** Of a group: what is told of each. */
  readonly commands: readonly Page[];
  /** Of tsv itself: what there is. */
  readonly list: readonly Entry[];
  readonly exit: readonly Entry[];
  /** Other pages: `tsv-up`. */
  readonly see: readonly string[];
  /** Of docs/, without `.md`. */
  readonly page?: string;
}

/** One page for each command and group of commands, in the order of the help; the first is on tsv itself. */
export function manualPages(program: Command): readonly Page[] {
  const commands = program
    .createHelp()
    .visibleCommands(program)
    .filter((command) => command.name() !== 'help');
  const pages = commands.map((command) => {
    const said = about[command.name()];
    if (said === undefined) throw new Error(`the manual says nothing about ${command.name()}: src/cli/manual/about.ts`);
    return pageOf(command, said, ['tsv']);
  });
  const first = pageOf(program, undefined, []);
  const list = pages.map(({ command, summary }): Entry => [pageName(command), summary]);
  return [{ ...first, list, page: 'architecture' }, ...pages];
}

/** `tsv-image` for `tsv image`. */
export const pageName = (command: string): string => command.replaceAll(' ', '-');

function pageOf(command: Command, said: About | undefined, before: readonly string[]): Page {
  const help = command.createHelp();
  const words = [...before, command.name()];
  const within = before.length === 0 ? [] : help.visibleCommands(command).filter((inner) => inner.name() !== 'help');
  return {
    command: words.join(' '),
    summary: help.commandDescription(command),
    usage: [words.join(' '), command.usage()].join(' ').trim(),
    text: said?.text ?? [],
    args: help.visibleArguments(command).map((arg) => [help.argumentTerm(arg), help.argumentDescription(arg)]),
    options: help.visibleOptions(command).map((option) => [help.optionTerm(option), help.optionDescription(option)]),
    ...notesOf(command),
    list: [],
    commands: within.map((inner) => pageOf(inner, undefined, words)),
    exit: before.length > 1 ? [] : exitCodes(said),
    see: (said?.see ?? []).map((name) => `tsv-${name}`),
    ...(said === undefined ? {} : { page: said.page }),
  };
}

function exitCodes(said: About | undefined): readonly Entry[] {
  const own = Object.entries(said?.exit ?? {});
  return [
    ['0', 'it is done'],
    ['1', 'something failed; standard error says what, where and why'],
    ...own,
    ['130', 'interrupted by Ctrl-C'],
  ];
}

/** addHelpText() hands its text out when help is printed, and in no other way. */
function notesOf(command: Command): Pick<Page, 'notes' | 'examples'> {
  const texts: string[] = [];
  (command as unknown as EventEmitter).emit('afterHelp', {
    error: false,
    command,
    write: (text: string) => texts.push(text),
  });
  const [notes = '', examples = ''] = texts.join('').split(/^Examples?:\n/m);
  return { notes: notes.trim(), examples: examples.trimEnd().replace(/^ {2}/gm, '') };
}
