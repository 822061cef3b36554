/**
 * Normalizers and pre-tokenizers of a `tokenizer.json`, run by @huggingface/tokenizers.
 *
 * A step that the library reads otherwise than the reference implementation is rewritten to one that it reads alike
 * (numeric characters outside ASCII, Unicode white space), and a step that can't be is refused: wrong ids must not
 * come about in silence.
 */
import { isDeepStrictEqual } from 'node:util';
import * as library from '@huggingface/tokenizers';
import { RadixkvError } from '../errors.js';
import { flattenSteps, type Step } from './tokenizer-json.js';

/** The library's own types don't resolve under `nodenext`; these are the two classes used. */
interface Library {
  readonly SequenceNormalizer: new (config: Step) => { normalize(text: string): string };
  readonly SequencePreTokenizer: new (
    config: Step,
  ) => {
    pre_tokenize(text: string, options: { section_index: number }): string[];
  };
}
// oxlint-disable-next-line typescript/no-unsafe-type-assertion
const { SequenceNormalizer, SequencePreTokenizer } = library as unknown as Library;

/** GPT-2's word pattern, which `ByteLevel` applies unless told otherwise. */
export const GPT2_WORDS =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

const NORMALIZERS = new Set([
  'NFC',
  'NFD',
  'NFKC',
  'NFKD',
  'Prepend',
  'Replace',
  'Lowercase',
  'StripAccents',
]);

/** How raw text becomes the words that are encoded on their own. */
export interface WordSplitter {
  /** `section` is the number of the text among the parts between added tokens. */
  split(text: string, section: number): string[];
  /** Words are encoded as the byte characters of their UTF-8 bytes. */
  readonly byteLevel: boolean;
}

/**
 * @throws RadixkvError `unsupported_model` with the name of a step that is not understood.
 */
export function createWordSplitter(
  normalizer: Step | null | undefined,
  preTokenizer: Step | null | undefined,
): WordSplitter {
  const normalizers = flattenSteps(normalizer, 'normalizers');
  for (const step of normalizers) if (!NORMALIZERS.has(step.type)) throw unsupported('normalizer', step.type);
  const preTokenizers = flattenSteps(preTokenizer, 'pretokenizers').flatMap(rewritePreTokenizer);
  // The byte step is left to the encoder, which does it once for each distinct word.
  const byteLevel = preTokenizers.at(-1)?.type === 'ByteLevel';
  if (byteLevel) preTokenizers.pop();
  if (preTokenizers.some((step) => step.type === 'ByteLevel'))
    throw unsupported('pre-tokenizer', 'ByteLevel not last');
  const normalize = new SequenceNormalizer({ type: 'Sequence', normalizers });
  const quick = quickSplit(preTokenizers);
  const split = new SequencePreTokenizer({ type: 'Sequence', pretokenizers: preTokenizers });
  return {
    byteLevel,
    split(text, section) {
      const normalized = normalize.normalize(text);
      if (normalized === '') return [];
      return quick?.(normalized) ?? split.pre_tokenize(normalized, { section_index: section });
    },
  };
}

/** Patterns of single characters, or of runs of them, that stand alone. */
const DIGITS = ['\\p{N}', '\\p{N}+'];

/**
 * The same words as the library's in a third of the time, for the steps of most byte-level vocabularies: GPT-2's words,
 * and maybe digits before; undefined for others.
 */
function quickSplit(steps: readonly Step[]): ((text: string) => string[]) | undefined {
  const patterns = steps.map((step) =>
    DIGITS.concat(GPT2_WORDS).find((each) => isDeepStrictEqual(step, isolate(each))),
  );
  const [first, last] = [patterns[0], patterns.at(-1)];
  if (patterns.length > 2 || last !== GPT2_WORDS) return undefined;
  // Every character is in a word of it, so that there is nothing between matches.
  const words = new RegExp(GPT2_WORDS, 'gu');
  if (patterns.length === 1) return (text) => text.match(words) ?? [];
  if (first === undefined || !DIGITS.includes(first)) return undefined;
  const digits = new RegExp(first, 'gu');
  return (text) => {
    const found: string[] = [];
    let end = 0;
    const addWords = (between: string) => {
      for (const word of between.match(words) ?? []) found.push(word);
    };
    for (const match of text.matchAll(digits)) {
      if (match.index > end) addWords(text.slice(end, match.index));
      found.push(match[0]);
      end = match.index + match[0].length;
    }
    if (end < text.length) addWords(text.slice(end));
    return found;
  };
}

/** A `Split` step that keeps both matches and what is between them. */
export function isolate(pattern: string): Step {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function rewritePreTokenizer(step: Step): Step[] {
  switch (step.type) {
    case 'Split': {
      const behavior = typeof step.behavior === 'string' ? step.behavior : 'none';
      if (behavior !== 'Isolated' && !(behavior === 'Removed' && step.invert === true)) {
        throw unsupported('pre-tokenizer', `Split with behavior ${behavior}`);
      }
      return [step];
    }
    case 'Digits':
      return [isolate(step.individual_digits === true ? '\\p{N}' : '\\p{N}+')];
    case 'ByteLevel': {
      if (step.add_prefix_space === true)
        throw unsupported('pre-tokenizer', 'ByteLevel with add_prefix_space');
      const bytes = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };
      return step.use_regex === false ? [bytes] : [isolate(GPT2_WORDS), bytes];
    }
    case 'Metaspace': {
      const mark = typeof step.replacement === 'string' ? step.replacement : '\u2581';
      return step.split === false ? [step] : [step, isolate(`${mark}[^${mark}]*`)];
    }
    default:
      throw unsupported('pre-tokenizer', step.type);
  }
}

function unsupported(kind: string, name: string): RadixkvError {
  return new RadixkvError('unsupported_model', `tokenizer ${kind} is not supported: ${name}`);
}
