/**
 * The passages and questions that models are calibrated on, and how a prompt is made of them: those that hold the
 * answer among others, in places that differ from question to question.
 *
 * A file has one JSON object a line: a passage `{id, title, text}`, or a question `{question, answer, passages}` that
 * names the passages with its answer. Or it is a JSON array in the format of MuSiQue's contexts. Pure but for reading.
 */
import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { passagePrompts } from './musique.js';

const PASSAGE = z.object({ id: z.string(), title: z.string().optional(), text: z.string().min(1) });
const QUESTION = z.object({
  question: z.string().min(1),
  answer: z.string().optional(),
  passages: z.array(z.string()),
});
export type Passage = z.infer<typeof PASSAGE>;
export type Question = z.infer<typeof QUESTION>;

export interface Corpus {
  readonly passages: readonly Passage[];
  readonly questions: readonly Question[];
}

/** What a model reads: passages in order, and the question after them. */
export interface CorpusPrompt {
  readonly passages: readonly { readonly title?: string | undefined; readonly text: string }[];
  readonly question: string;
}

/** The corpus that comes with the program. */
export const CORPUS_FILES = ['corpus.jsonl', 'questions.jsonl'].map((name) =>
  fileURLToPath(new URL(`../../../docs/examples/rag/${name}`, import.meta.url)),
);

/**
 * The first `questions` prompts of files, each with `passages` passages, or all there are; the same for the same files.
 * @throws RadixkvError `invalid_value` for `--data` when a file can't be read, or has another format
 */
export async function corpusPrompts(
  files: readonly string[],
  sizes: { readonly questions: number; readonly passages: number },
): Promise<CorpusPrompt[]> {
  try {
    const texts = await Promise.all(files.map((file) => readFile(file, 'utf8')));
    const text = texts.join('\n');
    const prompts = text.trimStart().startsWith('[')
      ? passagePrompts(files[0]!, sizes).map(({ passages, question }) => {
          return { passages: passages.map((passage) => ({ text: passage })), question };
        })
      : promptsOf(parseCorpus(text), sizes);
    if (prompts.length === 0) throw new Error('it has no questions');
    return prompts;
  } catch (cause) {
    const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : messageOf(cause);
    const wanted =
      'one JSON object a line, {id, title, text} or {question, answer, passages}, or an array of {question, ctxs, answers}';
    throw new RadixkvError('invalid_value', `--data ${files.join(', ')}: ${reason}; it should be ${wanted}`, {
      param: '--data',
      cause,
    });
  }
}

/** @throws where a line is neither a passage nor a question, or a question names a passage that is not there. */
export function parseCorpus(text: string): Corpus {
  const passages: Passage[] = [];
  const questions: Question[] = [];
  for (const [i, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    const value = z
      .union([PASSAGE, QUESTION], { error: `line ${i + 1} is neither a passage nor a question` })
      .parse(JSON.parse(line));
    if ('question' in value) questions.push(value);
    else passages.push(value);
  }
  const ids = new Set(passages.map(({ id }) => id));
  const missing = questions.flatMap((question) => question.passages.filter((id) => !ids.has(id)));
  if (missing.length > 0) throw new Error(`no passage is called ${missing[0]}`);
  return { passages, questions };
}

/** Steps between the passages that fill a prompt and between those of two questions; no common divisors with 40. */
const STRIDE = 11;
const SHIFT = 7;

function promptsOf(
  corpus: Corpus,
  { questions, passages }: { readonly questions: number; readonly passages: number },
): CorpusPrompt[] {
  const { length } = corpus.passages;
  return corpus.questions.slice(0, questions).map(({ question, passages: holding }, index) => {
    const taken = new Map<string, Passage>();
    for (let step = 0; step < length * STRIDE && taken.size < passages - holding.length; step++) {
      const passage = corpus.passages[(index * SHIFT + step * STRIDE) % length]!;
      if (!holding.includes(passage.id)) taken.set(passage.id, passage);
    }
    const order = [...taken.values()];
    for (const [i, id] of holding.entries()) {
      const at = (index + i * SHIFT) % (order.length + 1);
      order.splice(at, 0, corpus.passages.find((passage) => passage.id === id)!);
    }
    return { passages: order, question };
  });
}
