/** The options of `radixkv plan` beyond those that `serve` has too: flag, meaning, default and check of each. */
import { z } from 'zod';
import { CODEC_NAMES } from '#storage';
import { parseBytes } from '../config/bytes.js';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';

const count = (least: number) => {
  const message = `must be a whole number from ${least}`;
  return z
    .string()
    .regex(/^\d{1,12}$/, message)
    .transform(Number)
    .refine((value) => value >= least, message);
};
const POSITIVE = 'must be a number above 0';
const positive = z
  .string()
  .regex(/^\d{1,12}(\.\d{1,6})?$/, POSITIVE)
  .transform(Number)
  .refine((value) => value > 0, POSITIVE);
const size = z.string().transform((text, context) => {
  try {
    const bytes = parseBytes(text);
    if (bytes > 0) return bytes;
    context.addIssue('must be more than 0 bytes');
  } catch (error) {
    context.addIssue(messageOf(error));
  }
  return z.NEVER;
});

const SCHEMA = z.object({
  layers: count(1).optional(),
  kvHeads: count(1).optional(),
  headDim: count(1).optional(),
  users: count(1),
  conversationsPerUser: count(1),
  tokensPerConversation: count(1),
  turns: count(1),
  sharedTokens: count(0),
  sharedPrefixes: count(1),
  turnsPerHour: positive,
  nodes: count(1),
  prefillSpeed: positive.optional(),
  diskSpeed: size.optional(),
  remoteSpeed: size.optional(),
  remoteLatency: positive,
  remoteCodec: z.enum(CODEC_NAMES, { error: `must be one of ${CODEC_NAMES.join(', ')}` }),
  redisMemory: size,
  redisNetwork: size,
  replicas: count(0),
});
export type PlanOptions = z.output<typeof SCHEMA>;
export type PlanOptionTexts = { readonly [Key in keyof PlanOptions]?: string | undefined };

interface Row {
  readonly key: keyof PlanOptions;
  readonly placeholder: string;
  readonly description: string;
  /** Absent where the description says what applies. */
  readonly defaultText?: string;
}

/** In the order in which the help shows them. */
export const PLAN_OPTION_ROWS: readonly Row[] = [
  { key: 'layers', placeholder: '<number>', description: 'layers of a model that is not imported' },
  { key: 'kvHeads', placeholder: '<number>', description: 'its key and value heads' },
  { key: 'headDim', placeholder: '<number>', description: 'width of one of its heads' },
  { key: 'users', placeholder: '<number>', description: 'users', defaultText: '100' },
  {
    key: 'conversationsPerUser',
    placeholder: '<number>',
    description: 'conversations of a user that are kept',
    defaultText: '4',
  },
  {
    key: 'tokensPerConversation',
    placeholder: '<number>',
    description: 'tokens of a conversation at its end, answers included',
    defaultText: '4000',
  },
  { key: 'turns', placeholder: '<number>', description: 'turns of a conversation', defaultText: '10' },
  {
    key: 'sharedTokens',
    placeholder: '<number>',
    description: 'tokens that conversations begin with in common',
    defaultText: '500',
  },
  {
    key: 'sharedPrefixes',
    placeholder: '<number>',
    description: 'different such beginnings',
    defaultText: '1',
  },
  {
    key: 'turnsPerHour',
    placeholder: '<number>',
    description: 'turns that a user takes in an hour, at the busiest time',
    defaultText: '20',
  },
  { key: 'nodes', placeholder: '<number>', description: 'nodes of radixkv', defaultText: '3' },
  {
    key: 'prefillSpeed',
    placeholder: '<tokens>',
    description: 'tokens that a node prefills in a second (default: as measured by --url, else 400)',
  },
  {
    key: 'diskSpeed',
    placeholder: '<size>',
    description: 'bytes that a node reads from disk in a second (default: as measured by --url, else 888MB)',
  },
  {
    key: 'remoteSpeed',
    placeholder: '<size>',
    description:
      'bytes that a node reads from the remote tier in a second (default: as measured by --url, else 300MB)',
  },
  {
    key: 'remoteLatency',
    placeholder: '<milliseconds>',
    description: 'how long it waits for the first of them',
    defaultText: '1',
  },
  {
    key: 'remoteCodec',
    placeholder: '<format>',
    description: `format of KV in the remote tier: ${CODEC_NAMES.join(', ')}`,
    defaultText: 'float16',
  },
  {
    key: 'redisMemory',
    placeholder: '<size>',
    description: 'memory of one Redis server',
    defaultText: '16GiB',
  },
  {
    key: 'redisNetwork',
    placeholder: '<size>',
    description: 'bytes that its network takes in a second',
    defaultText: '1.25GB',
  },
  {
    key: 'replicas',
    placeholder: '<number>',
    description: 'replicas of each master of the Redis Cluster',
    defaultText: '1',
  },
];

/** `--kv-heads` of `kvHeads`. */
export const planFlag = (key: keyof PlanOptions): string =>
  `--${key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;

/** @throws RadixkvError `invalid_value`, one line, naming the first bad flag. */
export function parsePlanOptions(texts: PlanOptionTexts): PlanOptions {
  const filled: Record<string, string | undefined> = {};
  for (const { key, defaultText } of PLAN_OPTION_ROWS) filled[key] = texts[key] ?? defaultText;
  const parsed = SCHEMA.safeParse(filled);
  if (parsed.success) {
    const { sharedTokens, tokensPerConversation } = parsed.data;
    if (sharedTokens < tokensPerConversation) return parsed.data;
    throw new RadixkvError('invalid_value', '--shared-tokens must be below --tokens-per-conversation', {
      param: '--shared-tokens',
    });
  }
  const [issue] = parsed.error.issues;
  const { key } = PLAN_OPTION_ROWS.find((row) => row.key === issue!.path[0])!;
  const suffix = issue!.message.includes(', got ') ? '' : `, got "${filled[key]}"`;
  throw new RadixkvError('invalid_value', `${planFlag(key)} ${issue!.message}${suffix}`, {
    param: planFlag(key),
  });
}
