/** What the cache is told as: lookups, explanations, jobs, pins, the tree, events. */
import { z } from 'zod';
import { ERRORS } from '../errors.js';
import { TIERS } from '../serving/completion.js';
import { epochSeconds, nameIn } from './fields.js';

export const tokensByTier = z
  .object({ device: z.int(), host: z.int(), disk: z.int(), remote: z.int() })
  .meta({ id: 'TokensByTier', description: 'Prompt tokens by the fastest tier that has their KV.' });

const found = {
  prompt_tokens: z.int(),
  cached_tokens: z.int().describe('Those whose KV is there.'),
  computed_tokens: z.int().describe('The others; at least 1.'),
  by_tier: tokensByTier,
};

export const cacheLookup = z
  .object({ object: z.literal('cache.lookup'), ...found })
  .meta({ id: 'CacheLookup' });

export const missReason = z.enum(['nothing_cached', 'cached_ends', 'other_text', 'not_ready']);

/** Where a prompt and a cached sequence part. */
export const excerptTexts = {
  common_text: z.string().describe('The text before the token.'),
  prompt_text: z.string().describe('That of the prompt, from the token on.'),
  cached_text: z.string().describe('That of the cached sequence, from the token on.'),
  looks_like: z.enum(['time_or_number', 'tools', 'think_block']).nullable(),
};

const divergence = z.object({
  token: z.int().describe('The first prompt token that can’t be reused.'),
  reason: missReason,
  message: z
    .object({ index: z.int(), role: z.string() })
    .nullable()
    .describe('In which the token lies; null in what the template writes, and without messages.'),
  ...excerptTexts,
});

export const cacheExplanation = z
  .object({
    object: z.literal('cache.explanation'),
    ...found,
    divergence: divergence
      .nullable()
      .describe('Null: all is cached but the last token, which is always computed.'),
  })
  .meta({ id: 'CacheExplanation' });

export const warmJob = z
  .object({
    id: z.string(),
    object: z.literal('cache.warm'),
    status: z.enum(['queued', 'running', 'done', 'cancelled']),
    created_at: epochSeconds,
    progress: z.object({ done: z.int(), prompts: z.int() }),
    cached_tokens: z.int().describe('Of the prompts that are done.'),
    computed_tokens: z.int(),
    errors: z
      .array(z.object({ index: z.int(), code: nameIn(ERRORS), message: z.string() }))
      .describe('Prompts that failed.'),
  })
  .meta({ id: 'WarmJob' });

export const pin = z
  .object({
    id: z.string(),
    object: z.literal('cache.pin'),
    created_at: epochSeconds,
    tokens: z.int().describe('Of the whole chunks that are pinned.'),
    cached_tokens: z.int().describe('Those that are there now.'),
    whole: z.boolean(),
    ttl_seconds: z.number().nullable(),
    priority: z.int().nullable(),
  })
  .meta({ id: 'Pin' });

export const pinList = z.object({ object: z.literal('list'), data: z.array(pin) }).meta({ id: 'Pins' });

export const pinDeleted = z.object({
  id: z.string(),
  object: z.literal('cache.pin'),
  deleted: z.literal(true),
});

export const cacheCleared = z
  .object({
    object: z.literal('cache.cleared'),
    tier: z.enum(TIERS).nullable(),
    chunks: z.int().describe('Below the device, that are found no more.'),
    runs: z.int().describe('Likewise, on the device.'),
    in_use: z
      .object({ chunks: z.int(), runs: z.int() })
      .describe('Of these, those that requests read to the end.'),
    kept: z.object({
      pinned: z.int().describe('Chunks that are pinned, or before one that is.'),
      shared: z.int().describe('Chunks of the prompt from which others go on.'),
    }),
  })
  .meta({ id: 'CacheCleared' });

export const cacheImport = z
  .object({
    object: z.literal('cache.import'),
    imported: z.int(),
    present: z.int().describe('Chunks that were there.'),
    rejected: z.object({
      no_room: z.int(),
      no_parent: z.int().describe('The chunk before was rejected, or left meanwhile.'),
      unknown_tenant: z.int(),
    }),
    exact: z.boolean().describe('Whether it was computed on a processor like this one.'),
  })
  .meta({ id: 'CacheImport' });

export const sharedText = z
  .object({
    id: z.string(),
    object: z.literal('cache.shared'),
    created_at: epochSeconds,
    tokens: z.int().describe('Of its whole chunks.'),
    cached_tokens: z.int().describe('Those that are there now.'),
    whole: z.boolean(),
  })
  .meta({ id: 'SharedText' });

export const sharedList = z
  .object({ object: z.literal('list'), data: z.array(sharedText) })
  .meta({ id: 'SharedTexts' });

export const sharedDeleted = z.object({
  id: z.string(),
  object: z.literal('cache.shared'),
  deleted: z.literal(true),
});

const holding = z.object({
  bytes: z.int(),
  chunks: z.int(),
  quota_bytes: z.int().nullable().describe('Null: there is none.'),
});

export const tenantHoldings = z
  .object({
    object: z.literal('list'),
    data: z.array(z.object({ tenant: z.string(), host: holding, disk: holding })),
    total: z.int(),
    has_more: z.boolean(),
  })
  .meta({ id: 'TenantHoldings' });

export const treeNode = z
  .object({
    place: z.string().describe('Leads to what stands behind the node.'),
    start: z.int().describe('Tokens before it.'),
    tokens: z.int(),
    chunks: z.int(),
    chunks_host: z.int(),
    chunks_disk: z.int(),
    bytes: z.int(),
    children: z.int(),
    chunks_below: z.int(),
    text: z.string().describe('How it begins.'),
  })
  .meta({ id: 'TreeNode' });

export const treePage = z
  .object({
    object: z.literal('list'),
    place: z.string(),
    data: z.array(treeNode),
    total: z.int(),
    has_more: z.boolean(),
  })
  .meta({ id: 'TreePage' });

const head = { seq: z.int(), ts: z.number().describe('Seconds since the epoch.') };
const hash = z.string();
const medium = z.enum(['CPU', 'DISK', 'REMOTE']).describe('Host memory, disk, or the remote tier.');

export const cacheEvent = z
  .discriminatedUnion('type', [
    z.object({
      ...head,
      type: z.literal('BlockStored'),
      block_hashes: z.array(hash).describe('Of a path, if several.'),
      parent_block_hash: hash.nullable(),
      token_ids: z.array(z.int()),
      block_size: z.int(),
      lora_id: z.null(),
      medium,
      cause: z.enum(['computed', 'demoted', 'promoted', 'loaded', 'imported']),
    }),
    z.object({
      ...head,
      type: z.literal('BlockRemoved'),
      block_hashes: z.array(hash),
      medium,
      reason: z.enum(['capacity', 'quota', 'deleted', 'expired', 'corrupt', 'failed', 'closed']),
    }),
    z.object({ ...head, type: z.literal('AllBlocksCleared') }),
    z
      .object({
        ...head,
        type: z.literal('RemoteState'),
        state: z.enum(['closed', 'half-open', 'open']),
        reason: z.string().nullable(),
      })
      .describe('The remote tier is used (`closed`), left alone or tried. Of no key.'),
    z.object({ type: z.literal('Gap'), from: z.int(), to: z.int() }).describe('Events that were missed.'),
  ])
  .meta({ id: 'CacheEvent' });
