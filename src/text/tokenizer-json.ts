/**
 * The parts of Hugging Face's `tokenizer.json` and `tokenizer_config.json` that are read here, validated.
 *
 * `model.merge_ranks` is our own addition, written for GGUF vocabularies with scores; other readers ignore it.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { RadixkvError } from '../errors.js';

/** One step of a normalizer, pre-tokenizer, decoder or post-processor. */
const Step = z.looseObject({ type: z.string() });
export type Step = z.infer<typeof Step>;

const AddedToken = z.object({
  id: z.int(),
  content: z.string(),
  /** A control token: never made from user text, never shown in generated text. */
  special: z.boolean(),
  lstrip: z.boolean().optional(),
  rstrip: z.boolean().optional(),
});
export type AddedToken = z.infer<typeof AddedToken>;

export const TokenizerJson = z.object({
  added_tokens: z.array(AddedToken).default([]),
  normalizer: Step.nullish(),
  pre_tokenizer: Step.nullish(),
  post_processor: Step.nullish(),
  decoder: Step.nullish(),
  model: z.object({
    type: z.string().default('BPE'),
    vocab: z.custom<Record<string, number>>(isVocabulary, 'token ids by spelling'),
    /** `"left right"` or `[left, right]`, best first. */
    merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
    unk_token: z.string().nullish(),
    byte_fallback: z.boolean().optional(),
    ignore_merges: z.boolean().optional(),
    /** Rank of each merge where some are equal; without it their order counts. */
    merge_ranks: z.array(z.int()).optional(),
  }),
});
export type TokenizerJson = z.infer<typeof TokenizerJson>;

function isVocabulary(value: unknown): boolean {
  return typeof value === 'object' && value !== null && Object.values(value).every(Number.isInteger);
}

/** A special token, as its spelling or as an added token. */
const TokenName = z
  .union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content)])
  .nullish();

export const TokenizerConfig = z.object({
  bos_token: TokenName,
  eos_token: TokenName,
  unk_token: TokenName,
  pad_token: TokenName,
  add_bos_token: z.boolean().nullish(),
  /** Further tokens that end a turn or a message (from GGUF). */
  eot_token: TokenName,
  eom_token: TokenName,
  chat_template: z
    .union([z.string(), z.array(z.object({ name: z.string(), template: z.string() }))])
    .nullish(),
});
/** As read from a file, and as read back from one that we wrote. */
export type TokenizerConfig = z.infer<typeof TokenizerConfig>;

export const GenerationConfig = z.object({
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
});

/** The innermost steps of nested `Sequence` steps, in order. `field` is where a sequence keeps its steps. */
export function flattenSteps(step: Step | null | undefined, field: string): Step[] {
  if (step === null || step === undefined) return [];
  if (step.type !== 'Sequence') return [step];
  const inner = z.array(Step).safeParse(step[field]);
  if (!inner.success) throw new RadixkvError('corrupt_model', `tokenizer.json: a Sequence lacks ${field}`);
  return inner.data.flatMap((one) => flattenSteps(one, field));
}

/**
 * A text file of a model directory; `undefined` when there is none of that name.
 *
 * @throws RadixkvError `corrupt_model` when the directory or file can't be read.
 */
export async function readModelFile(directory: string, name: string): Promise<string | undefined> {
  try {
    if (!(await readdir(directory)).includes(name)) return undefined;
    return await readFile(join(directory, name), 'utf8');
  } catch (cause) {
    throw new RadixkvError('corrupt_model', `can't read ${name} in ${directory}`, { cause });
  }
}

/**
 * The same parsed and validated.
 *
 * @throws RadixkvError `corrupt_model` with the place and the kind of the fault.
 */
export async function readModelJson<T>(
  directory: string,
  name: string,
  schema: z.ZodType<T>,
): Promise<T | undefined> {
  const text = await readModelFile(directory, name);
  if (text === undefined) return undefined;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new RadixkvError('corrupt_model', `${name} is not valid JSON`, { cause });
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  throw new RadixkvError('corrupt_model', `${name}: ${z.prettifyError(parsed.error)}`);
}
