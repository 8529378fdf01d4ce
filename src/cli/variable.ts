import { TsvError } from '../model/errors.ts';

/** For an option that may be given more than once. */
export const collect = (value: string, previous: readonly string[] | undefined): readonly string[] => [
  ...(previous ?? []),
  value,
];

/** Of `--env`: `NAME=value`, or `NAME` for the variable as it is here. @throws TSV_USAGE where it is not set here */
export const variablesOf = (texts: readonly string[] | undefined): Readonly<Record<string, string>> =>
  Object.fromEntries((texts ?? []).map(variable));

function variable(text: string): [string, string] {
  const at = text.indexOf('=');
  if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
  const value = process.env[text];
  if (at === 0 || value === undefined)
    throw new TsvError('TSV_USAGE', `--env ${text}: not NAME=value, and no variable of that name is set here`);
  return [text, value];
}
