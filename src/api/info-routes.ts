/** The routes that only read: models, health, cache statistics, metrics. */
import type { RequestHandler } from 'express';
import { type CompletionService, type ModelCard, TIERS, tokensOf } from '../serving/completion.js';
import { createMetrics } from '../serving/metrics.js';
import type { ClassReading, DiskReading, Statistics, TierReading } from '../serving/statistics.js';
import { modelNotFound } from './error-response.js';

function modelJson({ id, created, contextTokens }: ModelCard) {
  return { id, object: 'model', created, owned_by: 'radixkv', max_model_len: contextTokens };
}

export function modelList({ model }: CompletionService): RequestHandler {
  return (_req, res) => {
    res.json({ object: 'list', data: [modelJson(model)] });
  };
}

/** The id may hold slashes, encoded or not. */
export function modelById({ model }: CompletionService): RequestHandler<{ id: string[] }> {
  return (req, res) => {
    if (req.params.id.join('/') !== model.id) throw modelNotFound(model.id);
    res.json(modelJson(model));
  };
}

/** The process runs and its event loop turns. */
export const live: RequestHandler = (_req, res) => {
  res.json({ status: 'live' });
};

export function readiness(service: CompletionService): RequestHandler {
  return (_req, res) => {
    const state = service.ready();
    if (state.ready) res.json({ status: 'ready' });
    else res.status(503).set('retry-after', '1').json({ status: 'not_ready', reason: state.reason });
  };
}

function tierJson(
  tokens: { readonly cached: number; readonly blended: number },
  tier: TierReading | undefined,
) {
  return {
    cached_tokens: tokens.cached,
    blended_tokens: tokens.blended,
    bytes: tier?.bytes ?? null,
    logical_bytes: tier?.logicalBytes ?? null,
    capacity_bytes: tier?.capacityBytes ?? null,
    chunks: tier?.chunks ?? null,
    classes: tier?.classes === undefined ? null : mapValues(tier.classes, classJson),
  };
}

function classJson({ bytes, chunks, shareBytes }: ClassReading) {
  return { bytes, chunks, share_bytes: shareBytes };
}

function mapValues<In, Out>(
  record: Readonly<Record<string, In>>,
  to: (value: In) => Out,
): Record<string, Out> {
  return Object.fromEntries(Object.entries(record).map(([key, value]) => [key, to(value)]));
}

/** Null without a disk tier. */
function diskJson(disk: DiskReading | undefined) {
  if (disk === undefined) return null;
  return {
    state: disk.state,
    read_bytes: disk.readBytes,
    written_bytes: disk.writtenBytes,
    queued_chunks: disk.queuedChunks,
    demotions: disk.demotions,
    promotions: disk.promotions,
    faults: disk.faults,
    skipped_tokens: disk.skippedTokens,
    prefill_tokens_per_second: disk.prefillTokensPerS ?? null,
    load_bytes_per_second: disk.loadBytesPerS ?? null,
  };
}

export function cacheStats(statistics: Statistics): RequestHandler {
  return (_req, res) => {
    const { tokens, hitRate, exactHitRate } = statistics;
    const { cached, blended } = tokens;
    const { tiers, radixNodes, cachedChunks, disk } = statistics.gauges();
    res.json({
      since: statistics.since.toISOString(),
      requests: {
        completed: statistics.requestsWith('completed'),
        aborted: statistics.requestsWith('aborted'),
        failed: statistics.requestsWith('failed'),
        refused: statistics.requestsWith('refused'),
      },
      prompt_tokens: tokens.prompt,
      cached_tokens: tokensOf(cached),
      blended_tokens: tokensOf(blended),
      computed_tokens: tokens.computed,
      completion_tokens: tokens.completion,
      hit_rate: hitRate ?? null,
      exact_hit_rate: exactHitRate ?? null,
      by_tier: Object.fromEntries(
        TIERS.map((tier) => [tier, tierJson({ cached: cached[tier], blended: blended[tier] }, tiers[tier])]),
      ),
      disk: diskJson(disk),
      radix: { nodes: radixNodes ?? null, chunks: cachedChunks ?? null },
    });
  };
}

export function metrics(statistics: Statistics): RequestHandler {
  const source = createMetrics(statistics);
  return async (_req, res) => {
    res.set('content-type', source.contentType).send(await source.scrape());
  };
}
