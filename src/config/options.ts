/**
 * The options of `radixkv serve`: one table of flag, environment variable, default and check.
 *
 * The command line builds its flags from the table; every value arrives as text (a flag, an environment variable or
 * a default) and leaves as a typed `ServeOptions`. Knows no command-line library.
 */
import { join, resolve } from 'node:path';
import { z } from 'zod';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { parseBytes } from './bytes.js';
import { availableCores, defaultDataDirectory } from './machine.js';

/** Weight formats one can ask for; `auto` takes the fastest that keeps the model's quality. */
export const WEIGHTS_OPTIONS = ['auto', 'float32', 'int8', 'int4'] as const;
export type WeightsOption = (typeof WEIGHTS_OPTIONS)[number];

export interface ServeOptions {
  readonly host: string;
  /** 0 lets the system choose a free port. */
  readonly port: number;
  /** Absolute paths. */
  readonly dataDir: string;
  readonly modelsDir: string;
  /** Name of an imported model, or a built-in alias that is imported when missing. */
  readonly model: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  /** Byte budgets of KV in the device and host tiers. */
  readonly deviceBytes: number;
  readonly hostBytes: number;
  /** Rows of one prefill run; at least 2, since one-row tiles are not bit-equal to longer ones. */
  readonly tileTokens: number;
  /** Tokens of one KV chunk. */
  readonly chunkTokens: number;
  /** Requests that compute at the same time, and requests that may wait for a place. */
  readonly maxActive: number;
  readonly maxQueue: number;
}

export interface OptionRow {
  readonly key: keyof ServeOptions;
  readonly flags: string;
  readonly environment: string;
  readonly description: string;
  /** As text, in the form a user would write it; absent where the description says what applies. */
  readonly defaultText?: () => string;
}

/** Every option of `serve`, in the order the help shows them. */
export const SERVE_OPTION_ROWS: readonly OptionRow[] = [
  row('host', '<address>', 'address to listen on', () => '127.0.0.1'),
  row('port', '<number>', 'port to listen on, 0 for any free one', () => '8080'),
  row('dataDir', '<path>', 'directory of downloads and models', () => defaultDataDirectory()),
  row('modelsDir', '<path>', 'directory of imported models (default: <data-dir>/models)'),
  row('model', '<name>', 'model to serve', () => 'smollm2-135m-instruct'),
  row('threads', '<number>', 'threads of the engine', () => String(availableCores())),
  row('weights', '<format>', `weight format: ${WEIGHTS_OPTIONS.join(', ')}`, () => 'auto'),
  row('deviceBytes', '<size>', 'memory for KV that the engine reads directly', () => '1GiB'),
  row('hostBytes', '<size>', 'memory for KV chunks kept for reuse', () => '2GiB'),
  row('tileTokens', '<number>', 'prompt tokens computed in one run', () => '512'),
  row('chunkTokens', '<number>', 'tokens of one KV chunk', () => '64'),
  row('maxActive', '<number>', 'requests computed at the same time', () => '16'),
  row('maxQueue', '<number>', 'requests that may wait; more are answered with 429', () => '64'),
];

const directory = z
  .string()
  .min(1, 'must not be empty')
  .transform((path) => resolve(path));
const SCHEMA = z.object({
  host: z.string().regex(/^\S+$/, 'must be a host name or address'),
  port: integer(0, 65535),
  dataDir: directory,
  modelsDir: directory.optional(),
  model: z.string().min(1, 'must name a model'),
  threads: integer(1, 256),
  weights: z.enum(WEIGHTS_OPTIONS, { error: `must be one of ${WEIGHTS_OPTIONS.join(', ')}` }),
  deviceBytes: bytes(1024 ** 2),
  hostBytes: bytes(0),
  tileTokens: integer(2, 8192),
  chunkTokens: integer(8, 1024),
  maxActive: integer(1, 1024),
  maxQueue: integer(0, 100_000),
});

/** Option values as text; what is absent takes its default. */
export type OptionTexts = { readonly [key in keyof ServeOptions]?: string | undefined };

/**
 * Checks the texts and fills in the defaults.
 *
 * @param blame How to name an option in the error message, e.g. by the environment variable it came from.
 * @throws RadixkvError `invalid_value`, one line, naming the first bad option.
 */
export function parseServeOptions(
  texts: OptionTexts = {},
  blame: (row: OptionRow) => string = flagOf,
): ServeOptions {
  const filled: Record<string, string | undefined> = {};
  for (const option of SERVE_OPTION_ROWS) filled[option.key] = texts[option.key] ?? option.defaultText?.();
  const parsed = SCHEMA.safeParse(filled);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const option = SERVE_OPTION_ROWS.find((candidate) => candidate.key === issue.path[0])!;
    const got = filled[option.key];
    const suffix = issue.message.includes(', got ') ? '' : `, got "${got}"`;
    throw new RadixkvError('invalid_value', `${blame(option)} ${issue.message}${suffix}`, {
      param: flagOf(option),
    });
  }
  return { ...parsed.data, modelsDir: parsed.data.modelsDir ?? join(parsed.data.dataDir, 'models') };
}

/** The flag without its placeholder: `--data-dir`. */
export function flagOf(option: OptionRow): string {
  return option.flags.split(' ')[0]!;
}

function row(
  key: keyof ServeOptions,
  placeholder: string,
  description: string,
  defaultText?: () => string,
): OptionRow {
  const kebab = key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const environment = `RADIXKV_${kebab.replaceAll('-', '_').toUpperCase()}`;
  const base = { key, flags: `--${kebab} ${placeholder}`, environment, description };
  return defaultText === undefined ? base : { ...base, defaultText };
}

function integer(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

function bytes(min: number) {
  return z.string().transform((text, context) => {
    try {
      const value = parseBytes(text);
      if (value >= min) return value;
      context.addIssue(`must be at least ${min} bytes`);
    } catch (error) {
      context.addIssue(messageOf(error));
    }
    return z.NEVER;
  });
}
