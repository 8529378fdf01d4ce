const shownCount = 5;
const lengthLimit = 128;
const byVersion = new Intl.Collator('en', { numeric: true });

/**
 * Pure. The words that are likest to one that does not exist, the best first: `1.27` for `1.27.99`. How many letters
 * have to change counts, and less so what both begin with; of two that are as near, the later version.
 */
export function nearest(word: string, words: readonly string[], count = shownCount): string[] {
  const wanted = word.slice(0, lengthLimit);
  return words
    .map((candidate) => ({
      candidate,
      cost: distance(wanted, candidate.slice(0, lengthLimit)) - shared(wanted, candidate),
    }))
    .sort((a, b) => a.cost - b.cost || byVersion.compare(b.candidate, a.candidate))
    .slice(0, count)
    .map(({ candidate }) => candidate);
}

function shared(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length += 1;
  return length;
}

/** Levenshtein's: insertions, deletions, substitutions. */
function distance(a: string, b: string): number {
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (last[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      row.push(Math.min((last[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1, change));
    }
    last = row;
  }
  return last[b.length] ?? 0;
}
