/** What someone may have meant who wrote a name that there is not. */

/** More letters than that to change, and it was another word. */
const EDITS_MAX = 3;

/**
 * ` (did you mean "x"?)` with the most similar of `names`, or nothing where none is similar. Capitals, `_` and leading
 * dashes are of no matter.
 */
export function suggestion(name: string, names: readonly string[]): string {
  const plain = plainName(name);
  const ranked = names
    .map((candidate) => ({ candidate, distance: editDistance(plain, plainName(candidate)) }))
    .sort((a, b) => a.distance - b.distance);
  const [best] = ranked;
  if (best === undefined || best.distance > Math.min(EDITS_MAX, plain.length / 2)) return '';
  return ` (did you mean "${best.candidate}"?)`;
}

function plainName(name: string): string {
  return name
    .replaceAll(/([a-z])([A-Z])/g, '$1-$2')
    .replaceAll('_', '-')
    .replace(/^-+/, '')
    .toLowerCase();
}

/** Letters to insert, delete or replace to make `b` of `a` (Levenshtein). */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, i) => i);
  for (const [i, letter] of a.split('').entries()) {
    const next = [i + 1];
    for (const [j, other] of b.split('').entries()) {
      next.push(Math.min(row[j]! + (letter === other ? 0 : 1), row[j + 1]! + 1, next[j]! + 1));
    }
    row = next;
  }
  return row.at(-1)!;
}
