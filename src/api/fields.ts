/**
 * The building blocks of the request schemas, and the fields that both completion endpoints share.
 *
 * `null` for an optional field means that it is absent. A list is measured before its items are looked at, so the
 * work is bounded by the limits, not by the body. A field that is known but not supported is refused by name unless
 * its value asks for nothing.
 */
import { isDeepStrictEqual } from 'node:util';
import { z } from 'zod';
import type { SamplingParams } from '../serving/completion.js';
import type { Limits } from './limits.js';

/** A registry, since it also knows a schema that was described or refined since. Its values are schemas. */
const shapes = z.registry<{ shape: unknown }>();

/** What `looksLike` said of a schema. */
export function shapeOf(schema: z.core.$ZodType): z.ZodType | undefined {
  const shape = shapes.get(schema)?.shape;
  return shape instanceof z.ZodType ? shape : undefined;
}

/**
 * `schema` itself, which checks by code what JSON Schema can't say, or says it in better words; in the OpenAPI document
 * and in the client's types it stands as `shape`. Whatever `schema` takes, `shape` must take.
 */
export function looksLike<Shape extends z.ZodType, Schema extends z.ZodType>(
  shape: Shape,
  schema: Schema,
): z.ZodType<z.output<Schema>, z.input<Shape>> {
  shapes.add<z.ZodType>(schema, { shape });
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- what it takes is told by the shape
  return schema as unknown as z.ZodType<z.output<Schema>, z.input<Shape>>;
}

/** One of the names in a record. */
export function nameIn<Name extends string>(record: Readonly<Record<Name, unknown>>, message?: string) {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- the keys of a record are its names
  return z.enum(Object.keys(record) as Name[], message);
}

/** The field may be absent or `null`; both give `undefined`. */
export function optional<T extends z.ZodType>(schema: T) {
  return schema.nullish().transform((value) => value ?? undefined);
}

/** The field may be absent or `null`; both give `fallback`. */
export function defaulted<T extends z.ZodType>(schema: T, fallback: z.output<T>) {
  return schema
    .nullish()
    .meta({ default: fallback })
    .transform((value): z.output<T> => value ?? fallback);
}

/** A known field that is not supported: absent, `null` or one of `harmless`, else `unsupported_field`. */
export function unsupported(...harmless: readonly unknown[]) {
  const values = [...harmless, null];
  const words =
    harmless.length === 0
      ? 'is not supported'
      : `is not supported, other than ${harmless.map((each) => JSON.stringify(each)).join(' or ')}`;
  return z
    .custom<null>((value) => value === undefined || values.some((each) => isDeepStrictEqual(each, value)), {
      error: words,
      params: { code: 'unsupported_field' },
    })
    .meta({ enum: values, deprecated: true, description: 'Not supported.' })
    .optional();
}

/** Text that UTF-8 can carry: a lone surrogate has no bytes, so no tokens. */
export const text = z
  .string()
  .refine((value) => !/\p{Surrogate}/u.test(value), 'must be well-formed Unicode');

/** A whole number in a query, where it may be absent. */
export function queryNumber({ min, max, fallback }: Record<'min' | 'max' | 'fallback', number>) {
  const rule = `must be a whole number from ${min} to ${max}`;
  return looksLike(
    z.int().min(min).max(max).meta({ default: fallback }),
    z
      .string()
      .regex(new RegExp(`^\\d{1,${String(max).length}}$`), rule)
      .transform(Number)
      .refine((value) => value >= min && value <= max, rule),
  )
    .optional()
    .transform((value) => value ?? fallback);
}

export const epochSeconds = z.int().describe('Seconds since the epoch.');

/** As the API gives times: since the epoch. */
export function secondsOf(ms: number): number {
  return Math.floor(ms / 1000);
}

/** A list of at most `max` items, its length checked before its items. */
export function list<T extends z.ZodType>(item: T, max: number) {
  return z
    .transform((value: z.input<T>[], context) => {
      if (Array.isArray(value) && value.length <= max) return value;
      const message = Array.isArray(value) ? `must have at most ${max} items` : 'must be an array';
      context.issues.push({ code: 'custom', message, input: value });
      return z.NEVER;
    })
    .pipe(z.array(item).max(max));
}

/** Likewise, of at least one. */
export function someOf<T extends z.ZodType>(item: T, max: number) {
  return list(item, max)
    .refine((items) => items.length > 0, 'must not be empty')
    .meta({ minItems: 1 });
}

function logitBias(max: number) {
  const checked = z.unknown().transform((value, context): ReadonlyMap<number, number> => {
    const refuse = (message: string, path: string[] = []) => {
      context.issues.push({ code: 'custom', message, path, input: value });
      return new Map();
    };
    if (value == null) return new Map();
    if (typeof value !== 'object' || Array.isArray(value)) return refuse('must map token ids to numbers');
    const entries = Object.entries(value);
    if (entries.length > max) return refuse(`must have at most ${max} entries`);
    const biases = new Map<number, number>();
    for (const [token, bias] of entries) {
      if (!/^\d{1,9}$/.test(token)) return refuse('must have token ids as its keys');
      if (typeof bias !== 'number' || !(Math.abs(bias) <= 100)) {
        return refuse('must be a number from -100 to 100', [token]);
      }
      biases.set(Number(token), bias);
    }
    return biases;
  });
  const shape = z.record(z.string().regex(/^[0-9]{1,9}$/), z.number().min(-100).max(100));
  return looksLike(shape.meta({ maxProperties: max }).nullable(), checked);
}

const PRIORITY_MAX = 100;

const penalty = defaulted(z.number().min(-2).max(2), 0);

/** Fields with one meaning in both endpoints. */
export function sharedFields(limits: Limits) {
  const stopString = text.min(1).max(limits.stopCharactersMax);
  return {
    model: z.string().describe('Id of the served model, as `GET /v1/models` lists it.'),
    temperature: defaulted(z.number().min(0).max(2), 1).describe('0 always takes the most likely token.'),
    top_p: defaulted(z.number().min(0).max(1), 1).describe('Keeps the fewest tokens whose mass reaches it.'),
    top_k: defaulted(z.int().min(0), 0).describe('Keeps the k most likely tokens; 0 keeps all.'),
    min_p: defaulted(z.number().min(0).max(1), 0).describe(
      'Keeps tokens at least this likely, relative to the most likely one.',
    ),
    seed: optional(z.int()).describe('The same seed, request and model give the same answer.'),
    presence_penalty: penalty.describe('Taken from the logit of every token generated before.'),
    frequency_penalty: penalty.describe(
      'Taken from the logit of a token for each time it was generated before.',
    ),
    logit_bias: logitBias(limits.logitBiasMax)
      .optional()
      .describe('Token id → what is added to its logit, from -100 to 100.'),
    n: defaulted(z.int().min(1).max(limits.choicesMax), 1).describe('Number of choices.'),
    stop: looksLike(
      z.union([stopString, z.array(stopString).max(limits.stopStringsMax), z.null()]),
      z.preprocess(
        (value) => (typeof value === 'string' ? [value] : (value ?? [])),
        list(stopString, limits.stopStringsMax),
      ),
    )
      .optional()
      .describe('One or more strings that end the answer, and are not part of it.'),
    stream: defaulted(z.boolean(), false).describe('Answer in server-sent events.'),
    stream_options: optional(
      z.strictObject({
        include_usage: defaulted(z.boolean(), false).describe(
          'Send `usage` in one last chunk without choices.',
        ),
        include_obfuscation: unsupported(false),
      }),
    ).describe('Only with `stream`.'),
    priority: defaulted(z.int().min(-PRIORITY_MAX).max(PRIORITY_MAX), 0).describe(
      'Requests with a lower number are computed first, and may preempt others.',
    ),
    deadline_ms: optional(z.int().min(1).max(limits.deadlineMsMax)).describe(
      'Milliseconds within which the first token is wanted; later, the request is refused with 504.',
    ),
    user: optional(z.string()).describe('Accepted and without effect.'),
  };
}

/** A stream option without a stream is a mistake that would otherwise pass unseen. */
export function refuseStreamOptionsAlone(
  body: { readonly stream: boolean; readonly stream_options?: unknown },
  context: z.RefinementCtx,
): void {
  if (body.stream || body.stream_options === undefined) return;
  context.addIssue({
    code: 'custom',
    path: ['stream_options'],
    message: 'is only allowed with stream: true',
  });
}

type SharedBody = z.output<z.ZodObject<ReturnType<typeof sharedFields>>>;

/** The shared sampling fields in the words of the service. */
export function samplingOf(body: SharedBody, topLogprobs: number | undefined): SamplingParams {
  return {
    temperature: body.temperature,
    topP: body.top_p,
    topK: body.top_k,
    minP: body.min_p,
    seed: body.seed,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    logitBias: body.logit_bias ?? new Map(),
    topLogprobs,
  };
}
