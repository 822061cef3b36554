/**
 * Prompts of passages and a question from MuSiQue, de-duplicated: the file's passages repeat each other, so a passage
 * is taken only if at most 2 % of its 8-grams are in those taken before. What a question lacks, others' passages fill.
 */
import { readFileSync } from 'node:fs';
import { z } from 'zod';

const QUESTIONS = z.array(
  z.object({
    ctxs: z.array(z.object({ title: z.string(), text: z.string() })),
    question: z.string(),
    answers: z.array(z.string()),
  }),
);

export interface PassagePrompt {
  readonly passages: readonly string[];
  readonly question: string;
  readonly answers: readonly string[];
}

const GRAM_WORDS = 8;
const SHARED_MAX = 0.02;
/** Most passages that a question brings itself. */
const OWN_MAX = 6;

/** The first `questions` of a file, each with `passages` passages; the same for the same file. */
export function passagePrompts(
  file: string,
  { questions, passages }: { readonly questions: number; readonly passages: number },
): PassagePrompt[] {
  const all = read(file);
  return all.slice(0, questions).map(({ ctxs, question, answers }, index) => {
    const taken: string[] = [];
    const grams = new Set<string>();
    const take = (candidates: typeof ctxs, most: number) => {
      for (const { title, text } of candidates) {
        if (taken.length >= most) return;
        const own = gramsOf(text);
        const shared = own.filter((gram) => grams.has(gram)).length;
        if (shared > SHARED_MAX * own.length) continue;
        taken.push(`${title}\n${text}`);
        for (const gram of own) grams.add(gram);
      }
    };
    take(ctxs, Math.min(OWN_MAX, passages));
    for (let step = 1; step < all.length && taken.length < passages; step++) {
      take(all[(index + 37 * step) % all.length]!.ctxs.slice(0, 1), passages);
    }
    return { passages: taken, question, answers };
  });
}

/** The first `questions` of a file, each with its first `passages` passages as they come, which repeat each other. */
export function rawPrompts(
  file: string,
  { questions, passages }: { readonly questions: number; readonly passages: number },
): PassagePrompt[] {
  return read(file)
    .slice(0, questions)
    .map(({ ctxs, question, answers }) => {
      const texts = ctxs.slice(0, passages).map(({ title, text }) => `${title}\n${text}`);
      return { passages: texts, question, answers };
    });
}

function read(file: string): z.infer<typeof QUESTIONS> {
  return QUESTIONS.parse(JSON.parse(readFileSync(file, 'utf8')));
}

function gramsOf(text: string): string[] {
  const words = text.split(/\s+/);
  return words.map((_, i) => words.slice(i, i + GRAM_WORDS).join(' ')).slice(0, 1 - GRAM_WORDS);
}
