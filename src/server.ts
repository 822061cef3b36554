/** Composes engine, cache, scheduler and API into a running server. */
import { stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import pino, { type Logger } from 'pino';
import { createChecksum, kvLayout } from '#storage';
import { createApp } from './api/app.js';
import { startServer } from './api/server.js';
import { HostTier } from './cache/host-tier.js';
import { KvCache } from './cache/kv-cache.js';
import type { ServeOptions } from './config/options.js';
import { Engine, type EngineOptions } from './engine/engine.js';
import { RadixkvError } from './errors.js';
import { MODEL_FILES, readManifest } from './model/manifest.js';
import { Scheduler } from './serving/scheduler.js';
import { Service } from './serving/service.js';
import { type GaugeReading, Statistics } from './serving/statistics.js';
import { createChatTemplate } from './text/chat-template.js';
import { createTokenizer } from './text/tokenizer.js';

/** How long answers under way may go on once the server stops. */
const SHUTDOWN_TIMEOUT_MS = 30_000;

/** A model that can answer, without a port. */
export interface Backend {
  readonly service: Service;
  readonly scheduler: Scheduler;
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly statistics: Statistics;
  close(): Promise<void>;
}

export type BackendOptions = Pick<
  ServeOptions,
  'threads' | 'deviceBytes' | 'hostBytes' | 'tileTokens' | 'chunkTokens' | 'maxActive' | 'maxQueue'
> & {
  readonly modelDirectory: string;
  readonly createWorker?: EngineOptions['createWorker'];
  readonly logger?: Logger;
};

/** Loads an imported model. @throws RadixkvError when it is damaged or the engine can't load it. */
export async function createBackend(options: BackendOptions): Promise<Backend> {
  const { modelDirectory, logger } = options;
  const manifest = await readManifest(modelDirectory);
  const { spec, kvType: dtype, fingerprint } = manifest;
  const { layers, kvHeads, headDim } = spec;
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens: options.chunkTokens, dtype });
  const checksum = await createChecksum();
  const host =
    options.hostBytes < layout.chunkBytes
      ? undefined
      : new HostTier({ layout, capacityBytes: options.hostBytes, fingerprint, checksum });
  const tokenizer = await createTokenizer(modelDirectory);
  const template = await createChatTemplate(modelDirectory, tokenizer.names);
  let parts: { readonly cache: KvCache; readonly scheduler: Scheduler } | undefined;
  const engine = await Engine.create({
    directory: modelDirectory,
    threads: options.threads,
    layout,
    ...(host && { slab: host.slab }),
    ...(options.createWorker && { createWorker: options.createWorker }),
    onReady: () => parts?.scheduler.engineReady(),
    onLost: (reason, wasReady) => {
      logger?.error({ reason }, 'the engine failed and is restarted');
      parts?.cache.forgetDevice();
      parts?.scheduler.engineLost(reason, { wasReady });
    },
  });
  const cache = new KvCache({ engine, layout, deviceBytes: options.deviceBytes, ...(host && { host }) });
  const vocab = Math.min(tokenizer.vocab, spec.vocab);
  const scheduler = new Scheduler({ cache, engine, vocab, limits: options });
  parts = { cache, scheduler };
  const created = Math.floor((await stat(join(modelDirectory, MODEL_FILES.manifest))).mtimeMs / 1000);
  const model = {
    id: basename(modelDirectory),
    created,
    contextTokens: spec.contextTokens,
    fingerprint: `fp_${fingerprint.slice(0, 12)}`,
  };
  const service = new Service({ model, tokenizer, template, cache, engine, scheduler });
  const statistics = new Statistics({ gauges: () => gauges(cache, scheduler) });
  const close = async () => {
    service.stop();
    await scheduler.close();
    await engine.close();
    await host?.close();
  };
  return { service, scheduler, cache, engine, statistics, close };
}

/** Starts serving the model in `modelDirectory`; `close` finishes requests under way. */
export async function startRadixkv(
  options: ServeOptions,
  modelDirectory: string,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const logger = pino({ level: process.env.RADIXKV_LOG_LEVEL ?? 'warn' }, pino.destination(2));
  const backend = await createBackend({ ...options, modelDirectory, logger });
  const { service, statistics } = backend;
  const app = createApp({ service, statistics, logger });
  const { host, port } = options;
  try {
    const server = await startServer({
      app,
      host,
      port,
      shutdownTimeoutMs: SHUTDOWN_TIMEOUT_MS,
      onShutdown: () => service.stop(),
    });
    const close = async () => {
      await server.close();
      await backend.close();
    };
    return { url: server.url, close };
  } catch (cause) {
    await backend.close();
    throw listenError(cause, host, port);
  }
}

function listenError(cause: unknown, host: string, port: number): unknown {
  if (!(cause instanceof Error && 'code' in cause)) return cause;
  if (cause.code === 'EADDRINUSE') {
    return new RadixkvError(
      'invalid_value',
      `port ${port} on ${host} is in use; choose another with --port`,
      { cause },
    );
  }
  return new RadixkvError('invalid_value', `can't listen on ${host}:${port}: ${cause.message}`, { cause });
}

function gauges(cache: KvCache, scheduler: Scheduler): GaugeReading {
  const { device, host, evictions } = cache.reading();
  return {
    tiers: { device, ...(host && { host }) },
    ...(host && { radixNodes: host.nodes, cachedChunks: host.treeChunks }),
    activeSequences: scheduler.active,
    queuedRequests: scheduler.queued,
    evictions,
  };
}
