/**
 * How well an answer matches the gold ones: F1 over words, as SQuAD defines it (Rajpurkar et al., 2016, §6.1).
 * English: articles do not count. Pure.
 */

/** Words of an answer in lower case, without punctuation and articles. */
export function answerWords(text: string): string[] {
  return text
    .toLowerCase()
    .replaceAll(/[\p{P}\p{S}]/gu, '')
    .split(/\s+/)
    .filter((word) => word !== '' && !['a', 'an', 'the'].includes(word));
}

/** The best F1 of `answer` with one of `gold`, in [0, 1]. Two answers without words match. */
export function answerF1(answer: string, gold: readonly string[]): number {
  const words = answerWords(answer);
  return Math.max(...gold.map((text) => wordF1(words, answerWords(text))));
}

function wordF1(words: readonly string[], gold: readonly string[]): number {
  if (words.length === 0 || gold.length === 0) return words.length === gold.length ? 1 : 0;
  const left = new Map<string, number>();
  for (const word of gold) left.set(word, (left.get(word) ?? 0) + 1);
  let shared = 0;
  for (const word of words) {
    const count = left.get(word) ?? 0;
    if (count === 0) continue;
    shared++;
    left.set(word, count - 1);
  }
  return (2 * shared) / (words.length + gold.length);
}
