/**
 * The options of `radixkv serve`: one table of flag, environment variable, key in a configuration file, default and
 * check.
 *
 * The command line builds its flags from the table; every value arrives as text (a flag, an environment variable, a
 * line of a file or a default) and leaves as a typed `ServeOptions`. Knows no command-line library and reads no file.
 */
import { join, resolve } from 'node:path';
import { z } from 'zod';
import {
  CODEC_NAMES,
  DEFAULT_POLICY,
  POLICY_NAMES,
  type PolicyName,
  parseRemoteAddress,
  REMOTE_WRITE_POLICIES,
  type RemoteWritePolicy,
  WRITE_POLICIES,
  type WritePolicy,
} from '#storage';
import { messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { KEYS_FILE } from '../tenants/key-file.js';
import { parseBytes } from './bytes.js';
import { withoutCredentials } from './credentials.js';
import { availableCores, defaultDataDirectory } from './machine.js';

/** Weight formats one can ask for; `auto` takes the fastest that keeps the model's quality. */
export const WEIGHTS_OPTIONS = ['auto', 'float32', 'int8', 'int4'] as const;
export type WeightsOption = (typeof WEIGHTS_OPTIONS)[number];

/** What may compute; `auto` takes what a probe finds to be quickest. */
export const DEVICE_OPTIONS = ['cpu', 'webgpu', 'cuda', 'auto'] as const;
export type DeviceOption = (typeof DEVICE_OPTIONS)[number];

/** A smaller disk tier would hold little more than its own directory. */
const DISK_BYTES_MIN = 64 * 1024 ** 2;

/** Format of KV on disk; `auto` is the one the model computes with, so that nothing is lost. */
export const DISK_CODEC_OPTIONS = ['auto', ...CODEC_NAMES] as const;
export type DiskCodecOption = (typeof DISK_CODEC_OPTIONS)[number];

export const BREAK_EVEN_OPTIONS = ['auto', 'off'] as const;
export type BreakEvenOption = (typeof BREAK_EVEN_OPTIONS)[number];

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

export interface ServeOptions {
  readonly host: string;
  /** 0 lets the system choose a free port. */
  readonly port: number;
  /** Whether keys are required even while there are none. */
  readonly requireKeys: boolean;
  /** Whether it may listen to others without any keys. */
  readonly insecureNoKeys: boolean;
  /** Absolute paths. */
  readonly dataDir: string;
  readonly modelsDir: string;
  /** Path of the file of keys and tenants, which nodes of one service have in common. */
  readonly keysFile: string;
  /** Name of an imported model, or a built-in alias that is imported when missing. */
  readonly model: string;
  readonly threads: number;
  /** What computes. */
  readonly device: DeviceOption;
  readonly weights: WeightsOption;
  /** Byte budgets of KV in the device and host tiers. */
  readonly deviceBytes: number;
  readonly hostBytes: number;
  /** Byte budget of the disk tier's directory; 0 means no disk tier. */
  readonly diskBytes: number;
  readonly diskDir: string;
  /** Bytes that the volume is to have free, whatever the budget. */
  readonly diskFreeBytes: number;
  readonly diskCodec: DiskCodecOption;
  /** File with the key that chunks on disk are encrypted with; undefined: they are not. */
  readonly diskKeyFile: string | undefined;
  /** URL of a Redis or Valkey that nodes share; undefined: no remote tier. Has a password, maybe. */
  readonly remote: string | undefined;
  /** Of what is written there, in seconds. */
  readonly remoteTtl: number;
  /** What a namespace may write there within a TTL; 0: no limit. */
  readonly remoteNamespaceBytes: number;
  /** Milliseconds that a request may wait for the remote tier: the time to compute what it waits for, within these. */
  readonly remoteDeadlineMs: number;
  readonly remoteDeadlineMinMs: number;
  readonly remoteWritePolicy: RemoteWritePolicy;
  /** Of chunks that wait to be written there. */
  readonly remoteQueueBytes: number;
  readonly remoteCodec: DiskCodecOption;
  /** PEM files: who signed the servers' certificates, and the client's certificate and its key. */
  readonly remoteCaFile: string | undefined;
  readonly remoteCertFile: string | undefined;
  readonly remoteCertKeyFile: string | undefined;
  readonly writePolicy: WritePolicy;
  /** Uses after which `write-through-selective` writes a chunk. */
  readonly writeHits: number;
  /** Which chunk is evicted first, in host memory and on disk. */
  readonly eviction: PolicyName;
  /** Share of host memory and disk that KV of passages is sure of; the rest is that of whole prompts. */
  readonly segmentShare: number;
  /** Nats a token that blending may cost on average, as measured on the model, for `auto` to blend. */
  readonly blendKlMax: number;
  /** File with the Jinja of one document; undefined: the default one. */
  readonly documentTemplateFile: string | undefined;
  /** Whether a tier that is slower than computing is left out. */
  readonly breakEven: BreakEvenOption;
  /** Rows of one prefill run; at least 2, since one-row tiles are not bit-equal to longer ones. */
  readonly tileTokens: number;
  /** Tokens of one KV chunk. */
  readonly chunkTokens: number;
  /** Requests that compute at the same time, and requests that may wait for a place. */
  readonly maxActive: number;
  readonly maxQueue: number;
  /** Prompt and answer tokens of the former, and prompt tokens of the latter. */
  readonly maxActiveTokens: number;
  readonly maxQueueTokens: number;
  /** Milliseconds between two tokens of an answer, while prompts are prefilled beside it. */
  readonly tpotTargetMs: number;
  /** Milliseconds for which a request may be overtaken by those with more in the cache. */
  readonly patienceMs: number;
  /** Requests that ended last, of which is kept what they went through; 0 keeps none. */
  readonly recentRequests: number;
  /** Whether short parts of their prompts are kept too, and of prefixes that are used often: in memory only. */
  readonly keepExcerpts: boolean;
  readonly logLevel: LogLevel;
  /** Base address of the OpenTelemetry collector; undefined: that of OpenTelemetry's own variables, if any. */
  readonly otlpEndpoint: string | undefined;
  /** Milliseconds from the signal to the end of what is being answered, and from then on to that of the process. */
  readonly drainMs: number;
  readonly flushMs: number;
}

export interface OptionRow {
  readonly key: keyof ServeOptions;
  readonly flags: string;
  readonly environment: string;
  readonly description: string;
  /** Never shown: not in error messages either. */
  readonly isSecret?: boolean;
  /** As text, in the form a user would write it; absent where the description says what applies. */
  readonly defaultText?: () => string;
}

/** Every option of `serve`, in the order the help shows them. */
export const SERVE_OPTION_ROWS: readonly OptionRow[] = [
  row('host', '<address>', 'address to listen on', () => '127.0.0.1'),
  row('port', '<number>', 'port to listen on, 0 for any free one', () => '8080'),
  row(
    'requireKeys',
    '[boolean]',
    'refuse requests without a valid API key even while there are no keys',
    () => 'false',
  ),
  row(
    'insecureNoKeys',
    '[boolean]',
    'listen beyond this machine without keys, for everybody to use',
    () => 'false',
  ),
  row('dataDir', '<path>', 'directory of downloads and models', () => defaultDataDirectory()),
  row('modelsDir', '<path>', 'directory of imported models (default: <data-dir>/models)'),
  row('keysFile', '<path>', 'file of API keys and tenants (default: <data-dir>/keys.sqlite)'),
  row('model', '<name>', 'model to serve', () => 'smollm2-135m-instruct'),
  row('threads', '<number>', 'threads of the engine', () => String(availableCores())),
  row(
    'device',
    '<device>',
    `what computes: ${DEVICE_OPTIONS.join(', ')}; auto takes a GPU that is quicker than the CPU`,
    () => 'cpu',
  ),
  row('weights', '<format>', `weight format: ${WEIGHTS_OPTIONS.join(', ')}`, () => 'auto'),
  row(
    'deviceBytes',
    '<size>',
    'memory for KV that the engine reads directly, of the GPU with --device webgpu',
    () => '1GiB',
  ),
  row('hostBytes', '<size>', 'memory for KV chunks kept for reuse', () => '2GiB'),
  row('diskBytes', '<size>', 'disk space for KV chunks that outlive the process; 0 for none', () => '8GiB'),
  row('diskDir', '<path>', 'directory of these chunks (default: <data-dir>/cache)'),
  row('diskFreeBytes', '<size>', 'space to leave free on the volume of that directory', () => '1GiB'),
  row(
    'diskCodec',
    '<format>',
    `KV on disk: ${DISK_CODEC_OPTIONS.join(', ')}; auto loses nothing`,
    () => 'auto',
  ),
  row(
    'diskKeyFile',
    '<path>',
    'file with the key that chunks are encrypted with, 64 hex digits (default: none)',
  ),
  {
    ...row('remote', '<url>', 'Redis or Valkey for KV chunks that nodes share, redis://… (default: none)'),
    isSecret: true,
  },
  row('remoteTtl', '<duration>', 'how long a chunk is kept there, like 90s, 30m, 24h or 7d', () => '24h'),
  row(
    'remoteNamespaceBytes',
    '<size>',
    'what one tenant may write there within that time; 0 for no limit',
    () => '8GiB',
  ),
  row(
    'remoteDeadlineMs',
    '<milliseconds>',
    'longest time a request waits for the remote tier; never longer than computing takes',
    () => '2000',
  ),
  row('remoteDeadlineMinMs', '<milliseconds>', 'what it may wait however fast computing is', () => '50'),
  row(
    'remoteWritePolicy',
    '<policy>',
    `when a chunk goes there: ${REMOTE_WRITE_POLICIES.join(', ')}; selective as for the disk`,
    () => 'write-through',
  ),
  row('remoteQueueBytes', '<size>', 'chunks that may wait to be written there', () => '256MiB'),
  row(
    'remoteCodec',
    '<format>',
    `KV there: ${DISK_CODEC_OPTIONS.join(', ')}; auto loses nothing`,
    () => 'auto',
  ),
  row('remoteCaFile', '<path>', 'PEM file of who signed its certificate (default: those Node trusts)'),
  row('remoteCertFile', '<path>', 'PEM file of the certificate to show it (default: none)'),
  row('remoteCertKeyFile', '<path>', "PEM file of that certificate's key (default: none)"),
  row(
    'writePolicy',
    '<policy>',
    `when a chunk goes to disk: ${WRITE_POLICIES.join(', ')}`,
    () => 'write-through',
  ),
  row('writeHits', '<number>', 'uses after which write-through-selective writes a chunk', () => '2'),
  row(
    'eviction',
    '<policy>',
    `what leaves a full tier first: ${POLICY_NAMES.join(', ')}`,
    () => DEFAULT_POLICY,
  ),
  row('breakEven', '<mode>', 'auto: leave out the disk where computing is faster; off: never', () => 'auto'),
  row(
    'segmentShare',
    '<number>',
    'share of host memory and disk that passages are sure of, 0 to 1; prompts have the rest',
    () => '0.5',
  ),
  row(
    'blendKlMax',
    '<nats>',
    'divergence a token up to which cache.mode auto blends, as measured by model calibrate',
    () => '0.05',
  ),
  row(
    'documentTemplateFile',
    '<path>',
    'file with the Jinja of one document (title, text), for chat templates that know none (default: built in)',
  ),
  row('tileTokens', '<number>', 'prompt tokens computed in one run', () => '512'),
  row('chunkTokens', '<number>', 'tokens of one KV chunk', () => '64'),
  row('maxActive', '<number>', 'requests computed at the same time', () => '16'),
  row('maxQueue', '<number>', 'requests that may wait; more are answered with 429', () => '64'),
  row(
    'maxActiveTokens',
    '<number>',
    'prompt and answer tokens of requests that are computed',
    () => '262144',
  ),
  row('maxQueueTokens', '<number>', 'prompt tokens of requests that may wait', () => '1048576'),
  row(
    'tpotTargetMs',
    '<milliseconds>',
    'time between two tokens of an answer that prompts computed beside it are to keep to',
    () => '250',
  ),
  row(
    'patienceMs',
    '<milliseconds>',
    'how long a request may be overtaken by later ones with more in the cache',
    () => '5000',
  ),
  row('recentRequests', '<number>', 'ended requests that can be looked at; 0 for none', () => '200'),
  row(
    'keepExcerpts',
    '[boolean]',
    'keep short parts of prompts in memory, to tell why they missed and which are used most',
    () => 'true',
  ),
  row('logLevel', '<level>', `least of what is logged: ${LOG_LEVELS.join(', ')}`, () => 'warn'),
  row(
    'otlpEndpoint',
    '<url>',
    'OpenTelemetry collector that traces are sent to, as http://127.0.0.1:4318 (default: none)',
  ),
  row(
    'drainMs',
    '<milliseconds>',
    'how long answers under way may go on once the server is to stop',
    () => '30000',
  ),
  row(
    'flushMs',
    '<milliseconds>',
    'how long it may take after that to write what is to be kept; then the process is ended',
    () => '20000',
  ),
];

const path = z
  .string()
  .min(1, 'must not be empty')
  .transform((text) => resolve(text));
const UNIT_SECONDS: ReadonlyMap<string, number> = new Map([
  ['s', 1],
  ['m', 60],
  ['h', 3600],
  ['d', 86_400],
]);
const DURATION_DAYS_MAX = 365;

const REMOTE_FORM =
  'must be redis://[name:password@]host[:port][/database], redis+sentinel://hosts/name or redis+cluster://hosts; rediss for TLS';

/** Of the texts. */
export const OPTION_SCHEMA = z.object({
  host: z.string().regex(/^\S+$/, 'must be a host name or address'),
  port: integer(0, 65535),
  requireKeys: flag(),
  insecureNoKeys: flag(),
  dataDir: path,
  modelsDir: path.optional(),
  keysFile: path.optional(),
  model: z.string().min(1, 'must name a model'),
  threads: integer(1, 256),
  device: choice(DEVICE_OPTIONS),
  weights: choice(WEIGHTS_OPTIONS),
  deviceBytes: bytes(1024 ** 2),
  hostBytes: bytes(0),
  diskBytes: bytes(0).refine(
    (value) => value === 0 || value >= DISK_BYTES_MIN,
    'must be 0 or at least 64MiB',
  ),
  diskDir: path.optional(),
  diskFreeBytes: bytes(0),
  diskCodec: choice(DISK_CODEC_OPTIONS),
  diskKeyFile: path.optional(),
  remote: z
    .string()
    .refine((text) => parseRemoteAddress(text) !== undefined, REMOTE_FORM)
    .optional(),
  remoteTtl: duration(),
  remoteNamespaceBytes: bytes(0),
  remoteDeadlineMs: integer(1, 600_000),
  remoteDeadlineMinMs: integer(1, 600_000),
  remoteWritePolicy: choice(REMOTE_WRITE_POLICIES),
  remoteQueueBytes: bytes(0),
  remoteCodec: choice(DISK_CODEC_OPTIONS),
  remoteCaFile: path.optional(),
  remoteCertFile: path.optional(),
  remoteCertKeyFile: path.optional(),
  writePolicy: choice(WRITE_POLICIES),
  writeHits: integer(1, 1000),
  eviction: choice(POLICY_NAMES),
  breakEven: choice(BREAK_EVEN_OPTIONS),
  segmentShare: decimal(0, 1),
  blendKlMax: decimal(0, 100),
  documentTemplateFile: path.optional(),
  tileTokens: integer(2, 8192),
  chunkTokens: integer(8, 1024),
  maxActive: integer(1, 1024),
  maxQueue: integer(0, 100_000),
  maxActiveTokens: integer(1, 100_000_000),
  maxQueueTokens: integer(1, 100_000_000),
  tpotTargetMs: integer(1, 60_000),
  patienceMs: integer(0, 3_600_000),
  recentRequests: integer(0, 10_000),
  keepExcerpts: flag(),
  logLevel: choice(LOG_LEVELS),
  otlpEndpoint: httpUrl().optional(),
  drainMs: integer(0, 3_600_000),
  flushMs: integer(1, 3_600_000),
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
  const parsed = OPTION_SCHEMA.safeParse(filled);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    const option = SERVE_OPTION_ROWS.find((candidate) => candidate.key === issue.path[0])!;
    const got = filled[option.key];
    const isShown = option.isSecret !== true && !issue.message.includes(', got ');
    const suffix = isShown ? `, got "${withoutCredentials(got ?? '')}"` : '';
    throw new RadixkvError('invalid_value', `${blame(option)} ${issue.message}${suffix}`, {
      param: flagOf(option),
    });
  }
  const { dataDir, modelsDir, keysFile, diskDir, diskKeyFile, documentTemplateFile, otlpEndpoint } =
    parsed.data;
  const { remote, remoteCaFile, remoteCertFile, remoteCertKeyFile } = parsed.data;
  if ((remoteCertFile === undefined) !== (remoteCertKeyFile === undefined)) {
    throw new RadixkvError('invalid_value', '--remote-cert-file and --remote-cert-key-file need each other');
  }
  if (parsed.data.requireKeys && parsed.data.insecureNoKeys) {
    throw new RadixkvError('invalid_value', '--require-keys and --insecure-no-keys contradict each other');
  }
  return {
    ...parsed.data,
    modelsDir: modelsDir ?? join(dataDir, 'models'),
    keysFile: keysFile ?? join(dataDir, KEYS_FILE),
    diskDir: diskDir ?? join(dataDir, 'cache'),
    diskKeyFile,
    documentTemplateFile,
    remote,
    remoteCaFile,
    remoteCertFile,
    remoteCertKeyFile,
    otlpEndpoint,
  };
}

/** The flag without its placeholder: `--data-dir`. */
export function flagOf(option: OptionRow): string {
  return option.flags.split(' ')[0]!;
}

/** The key in a configuration file: the flag without its dashes. */
export function fileKeyOf(option: OptionRow): string {
  return flagOf(option).slice(2);
}

export function isPath({ flags }: OptionRow): boolean {
  return flags.endsWith('<path>');
}

export function isSize({ flags }: OptionRow): boolean {
  return flags.endsWith('<size>');
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

function choice<Option extends string>(options: readonly Option[]) {
  return z.enum(options, { error: `must be one of ${options.join(', ')}` });
}

function httpUrl() {
  return z
    .string()
    .refine((text) => /^https?:\/\//.test(text) && URL.canParse(text), 'must be an http or https URL');
}

function flag() {
  return choice(['true', 'false']).transform((text) => text === 'true');
}

function integer(min: number, max: number) {
  const message = `must be a whole number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

function decimal(min: number, max: number) {
  const message = `must be a number from ${min} to ${max}`;
  return z
    .string()
    .regex(/^\d{1,9}(\.\d{1,9})?$/, message)
    .transform(Number)
    .refine((value) => value >= min && value <= max, message);
}

/** Seconds, or a number with its unit → seconds. */
function duration() {
  const message = `must be seconds, or a number with s, m, h or d, from 1s to ${DURATION_DAYS_MAX}d`;
  return z
    .string()
    .regex(/^\d{1,9}[smhd]?$/, message)
    .transform((text) => Number.parseInt(text, 10) * (UNIT_SECONDS.get(text.slice(-1)) ?? 1))
    .refine((seconds) => seconds >= 1 && seconds <= DURATION_DAYS_MAX * 86_400, message);
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
