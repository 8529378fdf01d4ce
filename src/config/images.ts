import { TsvError } from '../model/errors.ts';
import { formatReference, parseReference } from '../model/reference.ts';
import type { Report } from './diagnostic.ts';
import { textOf } from './read.ts';
import { closest, didYouMean } from './suggest.ts';
import type { Node } from './tree.ts';

/** The name of a box, or an image's reference in full; undefined where neither is written. */
export function readImage(
  node: Node | undefined,
  boxes: readonly string[],
  report: Report,
): { readonly source: string; readonly isBox: boolean } | undefined {
  const text = textOf(node);
  if (text === undefined || text.value === '') return undefined;
  if (boxes.includes(text.value)) return { source: text.value, isBox: true };
  try {
    return { source: formatReference(parseReference(text.value)), isBox: false };
  } catch (error) {
    if (!(error instanceof TsvError)) throw error;
    const why = error.details[0];
    report(
      text.at,
      `${error.message}${why === undefined ? '' : `: ${why}`}`,
      didYouMean(text.value, boxes) ?? error.hint,
    );
    return undefined;
  }
}

/** The box that somebody may have meant by a reference that no registry knows: a word alone, near to its name. */
export function boxMeantBy(reference: string, boxes: readonly string[]): string | undefined {
  const { registry, repository, tag, digest } = parseReference(reference);
  const [library, name, ...more] = repository.split('/');
  if (registry !== 'docker.io' || library !== 'library' || tag !== 'latest' || digest !== undefined) return undefined;
  return name === undefined || more.length > 0 ? undefined : closest(name, boxes);
}
