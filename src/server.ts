/** Composes engine, cache, scheduler and API into a running server. */
import { mkdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import pino, { type Logger } from 'pino';
import { unmovable } from '#blend';
import { createChecksum, type KvLayout, kvLayout } from '#storage';
import { createApp } from './api/app.js';
import type { CacheControls } from './api/cache-routes.js';
import type { Access } from './api/identity.js';
import { type RunningServer, startServer } from './api/server.js';
import { BreakEven } from './cache/break-even.js';
import { CacheEvents } from './cache/cache-events.js';
import { cacheFingerprint, createTiers, type DiskOptions, type RemoteOptions } from './cache/create-tiers.js';
import { KvCache } from './cache/kv-cache.js';
import type { Tiers } from './cache/tiers.js';
import { ProfiledQuality, readProfile } from './calibration/profile.js';
import { shownOptions } from './config/describe.js';
import { readDiskKey } from './config/disk-key.js';
import { machineArithmetic } from './config/machine.js';
import { readOptionFile } from './config/option-file.js';
import type { ServeOptions } from './config/options.js';
import { remoteTls } from './config/remote-tls.js';
import { archiveCipher } from './control/archive-cipher.js';
import { Archives } from './control/archives.js';
import { CacheDesk } from './control/cache-desk.js';
import { PinFile } from './control/pin-file.js';
import { Pins } from './control/pins.js';
import { Warming } from './control/warming.js';
import { DocumentLibrary } from './documents/library.js';
import { type ChosenDevice, chooseDevice } from './engine/device-probe.js';
import { Engine, type EngineOptions } from './engine/engine.js';
import { deviceFingerprint, kvTypeOn } from './engine/gpu-kv.js';
import type { DeviceOptions } from './engine/protocol.js';
import { RadixkvError } from './errors.js';
import { History } from './history/history.js';
import { type Manifest, MODEL_FILES, readManifest } from './model/manifest.js';
import { BlendPolicy } from './serving/blend-policy.js';
import { PassageBook } from './serving/passage-book.js';
import { PromptEncoder } from './serving/prompt-encoder.js';
import { RecentRequests } from './serving/recent-requests.js';
import { Savings } from './serving/savings.js';
import { Scheduler } from './serving/scheduler.js';
import { Service } from './serving/service.js';
import { type GaugeReading, Statistics } from './serving/statistics.js';
import { Budgets } from './tenants/budgets.js';
import { KeyRing } from './tenants/key-ring.js';
import { quotasOf, type Tenant } from './tenants/tenant.js';
import { createChatTemplate } from './text/chat-template.js';
import { DEFAULT_DOCUMENT_TEMPLATE, DocumentTemplate } from './text/document-template.js';
import { createTokenizer } from './text/tokenizer.js';
import { tracesUrl } from './tracing/endpoint.js';
import type { Tracing } from './tracing/spans.js';
import { packageVersion } from './version.js';

/** How long it may take to send the last traces. */
const TRACES_FLUSH_MS = 3000;

/** The library of documents, in the data directory. */
const DOCUMENTS_FILE = 'documents.sqlite';

/** Pins, likewise. */
const PINS_FILE = 'pins.sqlite';

/** The statistics over time, likewise. */
const HISTORY_FILE = 'statistics.sqlite';

/** Milliseconds since the epoch. */
const systemTime = { now: () => Date.now() };

/** A model that can answer, without a port. */
export interface Backend {
  readonly service: Service;
  readonly scheduler: Scheduler;
  readonly cache: KvCache;
  readonly engine: Engine;
  readonly statistics: Statistics;
  readonly history: History;
  /** Undefined: no documents are stored. */
  readonly documents: DocumentLibrary | undefined;
  readonly controls: CacheControls;
  /** To be told what tenants there are, and what they may take. */
  readonly setTenants: (tenants: readonly Tenant[]) => void;
  close(): Promise<void>;
}

export type BackendOptions = Pick<
  ServeOptions,
  | 'threads'
  | 'deviceBytes'
  | 'hostBytes'
  | 'tileTokens'
  | 'chunkTokens'
  | 'maxActive'
  | 'maxQueue'
  | 'maxActiveTokens'
  | 'maxQueueTokens'
  | 'tpotTargetMs'
  | 'patienceMs'
  | 'writePolicy'
  | 'writeHits'
  | 'eviction'
  | 'breakEven'
  | 'segmentShare'
  | 'blendKlMax'
> & {
  readonly modelDirectory: string;
  /** Absent: nothing outlives the process. */
  readonly disk?: DiskOptions;
  /** Absent: nothing is shared with other nodes. */
  readonly remoteTier?: RemoteOptions;
  /** Jinja of one document. */
  readonly documentTemplate?: string;
  /** Of the library of documents; absent: none are stored. */
  readonly documentsFile?: string;
  /** Of pins; absent: they end with the process. */
  readonly pinsFile?: string;
  /** Of the statistics over time; absent: they end with the process. */
  readonly historyFile?: string;
  /** What computes; absent: the CPU. */
  readonly chosenDevice?: ChosenDevice;
  /** As in `ServeOptions`; absent: 0, and false. */
  readonly recentRequests?: number;
  readonly keepExcerpts?: boolean;
  readonly createWorker?: EngineOptions['createWorker'];
  readonly logger?: Logger;
  /** Absent: nothing is traced. */
  readonly tracing?: Tracing;
};

/**
 * Loads an imported model.
 *
 * @throws RadixkvError when it is damaged, the engine can't load it, or the disk tier can't be used.
 */
export async function createBackend(options: BackendOptions): Promise<Backend> {
  const manifest = await readManifest(options.modelDirectory);
  const { layers, kvHeads, headDim } = manifest.spec;
  const { chunkTokens } = options;
  const { chosenDevice: device = { kind: 'cpu' } } = options;
  const dtype = kvTypeOn(device, manifest.kvType);
  const layout = kvLayout({ layers, kvHeads, headDim, chunkTokens, dtype });
  const breakEven = new BreakEven(options.breakEven);
  const events = new CacheEvents(systemTime);
  const fingerprint = cacheFingerprint(
    manifest.fingerprint,
    await deviceFingerprint(device, options.modelDirectory, dtype),
  );
  const tiers = await createTiers(options, { layout, fingerprint, breakEven, events });
  try {
    return await createService(options, { manifest, fingerprint, layout, breakEven, tiers, events });
  } catch (error) {
    await tiers?.close();
    throw error;
  }
}

function deviceOptions({
  chosenDevice: device = { kind: 'cpu' },
  deviceBytes,
}: BackendOptions): DeviceOptions {
  const { kind } = device;
  return kind === 'webgpu' ? { kind, kvBytes: deviceBytes } : { kind };
}

async function createService(
  options: BackendOptions,
  parts: {
    readonly manifest: Manifest;
    /** In the keys of chunks. */
    readonly fingerprint: string;
    readonly layout: KvLayout;
    readonly breakEven: BreakEven;
    readonly tiers: Tiers | undefined;
    readonly events: CacheEvents;
  },
): Promise<Backend> {
  const { modelDirectory, logger } = options;
  const { manifest, fingerprint, layout, breakEven, tiers, events } = parts;
  const documentTemplate = new DocumentTemplate(options.documentTemplate ?? DEFAULT_DOCUMENT_TEMPLATE);
  const tokenizer = await createTokenizer(modelDirectory);
  const template = await createChatTemplate(modelDirectory, tokenizer.names);
  let engineRestarts = 0;
  let users: { readonly cache: KvCache; readonly scheduler: Scheduler } | undefined;
  const engine = await Engine.create({
    directory: modelDirectory,
    threads: options.threads,
    layout,
    device: deviceOptions(options),
    ...(tiers && { slab: tiers.prefixes.slab }),
    ...(options.createWorker && { createWorker: options.createWorker }),
    onReady: () => users?.scheduler.engineReady(),
    onLost: (reason, wasReady) => {
      logger?.error({ reason }, 'the engine failed and is restarted');
      engineRestarts++;
      users?.cache.forgetDevice();
      users?.scheduler.engineLost(reason, { wasReady });
    },
  });
  try {
    await tiers?.opened();
    await tiers?.measure(engine);
  } catch (error) {
    await engine.close();
    throw error;
  }
  const prefixes = tiers?.prefixes;
  const { deviceBytes } = options;
  const cache = new KvCache({
    engine,
    layout,
    deviceBytes,
    breakEven,
    remote: tiers?.pulls,
    ...(prefixes && { prefixes }),
  });
  const vocab = Math.min(tokenizer.vocab, manifest.spec.vocab);
  const scheduler = new Scheduler({ cache, engine, vocab, limits: options });
  users = { cache, scheduler };
  const created = Math.floor((await stat(join(modelDirectory, MODEL_FILES.manifest))).mtimeMs / 1000);
  const model = {
    id: basename(modelDirectory),
    created,
    contextTokens: manifest.spec.contextTokens,
    fingerprint: `fp_${manifest.fingerprint.slice(0, 12)}`,
  };
  const profile = await readProfile(modelDirectory, manifest.fingerprint);
  const policy = new BlendPolicy({
    quality: profile && new ProfiledQuality(profile, options.blendKlMax),
    unmovable: unmovable(manifest.spec.rope.scaling?.type),
  });
  let passages: PassageBook;
  let documents: DocumentLibrary | undefined;
  const close = async () => {
    await documents?.close();
    await scheduler.close();
    await engine.close();
    await tiers?.close();
  };
  try {
    passages = new PassageBook({
      tokenizer,
      template,
      documentTemplate,
      policy,
      cache,
      scheduler,
      chunkTokens: options.chunkTokens,
      contextTokens: manifest.spec.contextTokens,
    });
    documents = openDocuments(options, passages);
  } catch (error) {
    await close();
    throw error;
  }
  const { contextTokens } = manifest.spec;
  const prompts = new PromptEncoder({ contextTokens, tokenizer, template, passages, documents });
  const { chunkTokens, recentRequests = 0, keepExcerpts = false } = options;
  const service = new Service({
    model,
    tokenizer,
    prompts,
    cache,
    engine,
    scheduler,
    chunkTokens,
    keepsExcerpts: keepExcerpts,
  });
  const history = openHistory(options);
  const pinFile = openPins(options, fingerprint);
  const statistics = new Statistics({
    gauges: () => ({
      ...gauges(cache, scheduler, tiers),
      isReady: service.ready().ready,
      engineRestarts,
      ...(engine.bus && { bus: engine.bus }),
      history: history.reading(),
      ...(options.tracing && { traces: options.tracing.reading() }),
    }),
    prefillTokensPerS: () => breakEven.reading().prefillTokensPerS,
  });
  const recent = new RecentRequests({ max: recentRequests, now: systemTime.now });
  const savings = new Savings(systemTime.now);
  statistics.events.on('record', (request, counts) => {
    history.add(request, counts);
    recent.add(request, counts);
    savings.add(request);
  });
  tiers?.onRemoteTimed((operation, ms) => statistics.events.emit('remote', operation, ms));
  const { chunkBytes } = layout;
  const controls = {
    desk: new CacheDesk({
      cache,
      prompts,
      tokenizer,
      chunkTokens,
      chunkBytes,
      clearForeign: () => tiers?.clearForeign() ?? 0,
      ownersBelow: () => tiers?.owners() ?? { host: new Map(), disk: new Map() },
    }),
    warming: new Warming({ service, clock: systemTime }),
    events,
    archives: new Archives({
      model: model.id,
      fingerprint,
      layout,
      vocab,
      checksum: await createChecksum(),
      cipher: options.disk?.encryptionKey && archiveCipher(options.disk.encryptionKey),
      processor: machineArithmetic(),
      prefixes,
    }),
    pins: new Pins({
      cache,
      chunkTokens,
      clock: systemTime,
      file: pinFile,
      logger,
    }),
    recent,
    savings,
  };
  // Where it can't be opened, that is told elsewhere, and the file stays as it is.
  cache.opened.then(
    () => controls.pins.restore(),
    () => undefined,
  );
  const stop = async () => {
    service.stop();
    try {
      await controls.warming.close();
      await close();
    } finally {
      controls.pins.close();
      history.close();
    }
  };
  const setTenants = (tenants: readonly Tenant[]) => {
    tiers?.setQuotas(quotasOf(tenants));
    const readers = tenants.filter(({ readsShared }) => readsShared);
    cache.setSharedReaders(new Set(readers.map(({ namespace }) => namespace)));
  };
  return {
    service,
    scheduler,
    cache,
    engine,
    statistics,
    history,
    documents,
    controls,
    setTenants,
    close: stop,
  };
}

function openHistory({ historyFile: file, logger }: BackendOptions): History {
  return History.open({
    clock: systemTime,
    ...(file !== undefined && { file }),
    ...(logger && { logger }),
  });
}

/** Undefined: pins end with the process. */
function openPins(
  { pinsFile: file, disk, logger }: BackendOptions,
  fingerprint: string,
): PinFile | undefined {
  if (file === undefined) return undefined;
  try {
    return PinFile.open({
      path: file,
      fingerprint,
      encryptionKey: disk?.encryptionKey,
      onCorrupt: (error) =>
        logger?.error({ err: error, file }, 'the file of pins is corrupt, and begun anew'),
    });
  } catch (error) {
    logger?.error({ err: error, file }, 'the file of pins can not be used');
    return undefined;
  }
}

function openDocuments(
  { documentsFile: file, logger, disk }: BackendOptions,
  passages: PassageBook,
): DocumentLibrary | undefined {
  if (file === undefined) return undefined;
  return DocumentLibrary.open({
    file,
    passages,
    clock: systemTime,
    ...(logger && { logger }),
    ...(disk?.encryptionKey && { encryptionKey: disk.encryptionKey }),
  });
}

/** Starts serving the model in `modelDirectory`; `close` finishes requests under way. */
export async function startRadixkv(
  options: ServeOptions,
  modelDirectory: string,
): Promise<{ readonly url: string; close(): Promise<void> }> {
  const logger = pino({ level: options.logLevel }, pino.destination(2));
  logger.info({ version: packageVersion(), config: shownOptions(options) }, 'starting');
  const chosenDevice = await chooseDevice(options.device);
  logger.info({ device: chosenDevice }, 'the device is chosen');
  const disk = await diskOptions(options);
  const remoteTier = await remoteOptions(options);
  const { documentTemplateFile: file } = options;
  const documentTemplate = file && (await readOptionFile('--document-template-file', file));
  await mkdir(options.dataDir, { recursive: true });
  const documentsFile = join(options.dataDir, DOCUMENTS_FILE);
  const historyFile = join(options.dataDir, HISTORY_FILE);
  const tracing = await openTracing(options, logger);
  const access = openAccess(options);
  let backend: Backend | undefined;
  const closeParts = async () => {
    await backend?.close();
    access.keys.close();
    await tracing?.close(TRACES_FLUSH_MS);
  };
  try {
    backend = await createBackend({
      ...options,
      chosenDevice,
      modelDirectory,
      logger,
      documentsFile,
      historyFile,
      pinsFile: join(options.dataDir, PINS_FILE),
      ...(documentTemplate !== undefined && { documentTemplate }),
      ...(disk && { disk }),
      ...(remoteTier && { remoteTier }),
      ...(tracing && { tracing }),
    });
    access.keys.watch(backend.setTenants);
    const server = await listen(options, { backend, access, logger, tracing });
    logger.info({ url: server.url }, 'listening');
    const close = async () => {
      await server.close();
      await closeParts();
      logger.info('stopped');
    };
    return { url: server.url, close };
  } catch (error) {
    await closeParts();
    throw error;
  }
}

/** The library is loaded only where there is somewhere to send traces to. */
async function openTracing({ otlpEndpoint }: ServeOptions, logger: Logger): Promise<Tracing | undefined> {
  const url = tracesUrl(otlpEndpoint, process.env);
  if (url === undefined) return undefined;
  const { createOpenTelemetry } = await import('./tracing/open-telemetry.js');
  return createOpenTelemetry({ url, version: packageVersion(), logger });
}

/** @throws RadixkvError `invalid_value` when the file of keys can't be used */
function openAccess({ keysFile, requireKeys }: ServeOptions): Access {
  const keys = KeyRing.open(keysFile, { isRequired: requireKeys });
  return { keys, budgets: new Budgets(() => performance.now()) };
}

async function listen(
  { host, port, drainMs }: ServeOptions,
  parts: {
    readonly backend: Backend;
    readonly access: Access;
    readonly logger: Logger;
    readonly tracing: Tracing | undefined;
  },
): Promise<RunningServer> {
  const { backend, access, logger, tracing } = parts;
  const { service, statistics, history, documents, controls } = backend;
  const app = createApp({
    service,
    statistics,
    history,
    controls,
    access,
    logger,
    ...(documents && { documents }),
    ...(tracing && { tracing }),
  });
  try {
    return await startServer({
      app,
      host,
      port,
      shutdownTimeoutMs: drainMs,
      onShutdown: () => {
        const { active, queued } = backend.scheduler;
        logger.info({ active, queued }, 'stopping');
        service.stop();
        controls.events.close();
      },
      onCut: () => logger.warn({ requests: service.cut() }, 'the time to drain is over'),
    });
  } catch (cause) {
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

async function diskOptions(options: ServeOptions): Promise<BackendOptions['disk']> {
  if (options.diskBytes === 0) return undefined;
  const encryptionKey = await readDiskKey(options.diskKeyFile);
  return {
    directory: options.diskDir,
    capacityBytes: options.diskBytes,
    freeBytesMin: options.diskFreeBytes,
    codec: options.diskCodec,
    ...(encryptionKey && { encryptionKey }),
  };
}

async function remoteOptions(options: ServeOptions): Promise<RemoteOptions | undefined> {
  const { remote: url } = options;
  if (url === undefined) return undefined;
  if (options.hostBytes === 0) {
    const message = '--remote needs host memory, which --host-bytes 0 turns off';
    throw new RadixkvError('invalid_value', message, { param: '--remote' });
  }
  const encryptionKey = await readDiskKey(options.diskKeyFile);
  return {
    url,
    tls: await remoteTls(options),
    ttlMs: 1000 * options.remoteTtl,
    namespaceBytes: options.remoteNamespaceBytes,
    deadline: { msMin: options.remoteDeadlineMinMs, msMax: options.remoteDeadlineMs },
    writePolicy: options.remoteWritePolicy,
    queueBytesMax: options.remoteQueueBytes,
    codec: options.remoteCodec,
    ...(encryptionKey && { encryptionKey }),
  };
}

function gauges(cache: KvCache, scheduler: Scheduler, tiers: Tiers | undefined): GaugeReading {
  const { device, prefixes, evictions, skippedTokens, speeds, remote: pulls } = cache.reading();
  const disk = tiers?.reading();
  const remote = tiers?.remoteReading();
  return {
    tiers: { device, ...prefixes?.tiers },
    ...(prefixes && { radixNodes: prefixes.nodes, cachedChunks: prefixes.treeChunks }),
    activeSequences: scheduler.active,
    queuedRequests: scheduler.queued,
    preemptions: scheduler.preemptions,
    retries: scheduler.retries,
    ...(disk && { disk: { ...disk, ...speeds, skippedTokens } }),
    ...(remote && pulls && { remote: { ...remote, ...pulls, prefillTokensPerS: speeds.prefillTokensPerS } }),
    evictions,
    lives: prefixes?.lives,
  };
}
