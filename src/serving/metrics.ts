/**
 * Statistics in Prometheus' words. They are copied from `Statistics` at scrape time, so that each fact has one counter;
 * only histograms of what nobody else asks for live here. Uses its own registry, not the process-wide one.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import { BUS_KINDS } from '../engine/device.js';
import { ERROR_CODES } from '../errors.js';
import { TIERS, tokensOf } from './completion.js';
import { type CopiedFrom, CopiedHistogram } from './copied-histogram.js';
import { HIT_CLASSES, hitClassOf, OUTCOMES, regretOf, ttftOf } from './counts.js';
import { ENDPOINTS, type LivesReading, type RequestRecord, type Statistics } from './statistics.js';

const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];
const REMOTE_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10];
/** By the number that the gauge shows. */
const REMOTE_STATES = ['closed', 'half-open', 'open'];
const TPOT_SECONDS = [0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1];

export interface Metrics {
  readonly contentType: string;
  /** The exposition text of this moment. */
  scrape(): Promise<string>;
}

function observeTimings(statistics: Statistics, registers: Registry[]): void {
  const histogram = (name: string, help: string, buckets: number[]) =>
    new Histogram({ name: `radixkv_${name}`, help, buckets, registers });
  const tpot = new Histogram({
    name: 'radixkv_tpot_seconds',
    help: 'Time per output token after the first of a choice, by how much of the prompt was reused.',
    labelNames: ['hit'],
    buckets: TPOT_SECONDS,
    registers,
  });
  const queue = histogram('queue_seconds', 'Time that a request waited before its prefill.', SECONDS);
  const prefill = histogram('prefill_seconds', 'Time to prefill a prompt.', SECONDS);
  const load = new Histogram({
    name: 'radixkv_load_seconds',
    help: 'Time to read chunks of a prompt from a slower tier, where there were any.',
    labelNames: ['tier'],
    buckets: SECONDS,
    registers,
  });
  statistics.events.on('record', ({ report }: RequestRecord) => {
    if (report === undefined || report.usage.completionTokens === 0) return;
    const { usage, timings, choices } = report;
    queue.observe(timings.queueMs / 1000);
    prefill.observe(timings.prefillMs / 1000);
    const { cachedTokens: cached, blendedTokens: more } = usage;
    const tier = (['remote', 'disk'] as const).find((each) => cached[each] + more[each] > 0);
    if (tier !== undefined) load.observe({ tier }, timings.loadMs / 1000);
    const decodedPerChoice = (usage.completionTokens - choices) / choices;
    if (decodedPerChoice > 0)
      tpot.observe({ hit: hitClassOf(usage) }, timings.decodeMs / 1000 / decodedPerChoice);
  });
}

/** Those that `statistics` keeps; they read it when they are scraped. */
function copyHistograms(statistics: Statistics, registers: Registry[]): void {
  const copied = (name: string, help: string, ...rest: CopiedFrom) =>
    new CopiedHistogram({ name: `radixkv_${name}`, help, registers }, ...rest);
  copied('ttft_seconds', 'Time from the arrival of a request to its first token.', 'hit', () =>
    HIT_CLASSES.map((hit) => [hit, ttftOf(statistics.counts, hit)]),
  );
  const ofTiers = (what: keyof LivesReading) => () =>
    Object.entries(statistics.gauges().lives ?? {}).map(([tier, lives]) => [tier, lives[what]] as const);
  copied('evicted_age_seconds', 'How long evicted chunks had been in a tier.', 'tier', ofTiers('ageS'));
  copied('evicted_uses', 'Requests that had used an evicted chunk in its tier.', 'tier', ofTiers('uses'));
  copied(
    'regret_seconds',
    'Time from the eviction of a chunk to its being computed again.',
    'tier',
    ofTiers('regretS'),
  );
}

/** Returns what copies the counters of `statistics` into the registry. */
function counters(statistics: Statistics, registers: Registry[]): () => void {
  const requests = new Counter({
    name: 'radixkv_requests_total',
    help: 'Requests by how they ended.',
    labelNames: ['endpoint', 'outcome'],
    registers,
  });
  const errors = new Counter({
    name: 'radixkv_errors_total',
    help: 'Answers with an error, of all routes, by code.',
    labelNames: ['code'],
    registers,
  });
  const prompt = new Counter({
    name: 'radixkv_prompt_tokens_total',
    help: 'Prompt tokens by where their KV came from.',
    labelNames: ['source'],
    registers,
  });
  const blended = new Counter({
    name: 'radixkv_blended_tokens_total',
    help: 'Prompt tokens whose KV was reused and is not exact: of documents, or from a lossy copy.',
    labelNames: ['tier'],
    registers,
  });
  const completion = new Counter({
    name: 'radixkv_completion_tokens_total',
    help: 'Generated tokens.',
    registers,
  });
  const saved = new Counter({
    name: 'radixkv_saved_prefill_seconds_total',
    help: 'Prefill that reused tokens would have taken, at the speed measured then.',
    registers,
  });
  const unpriced = new Counter({
    name: 'radixkv_unpriced_tokens_total',
    help: 'Reused tokens that are not in the saved seconds, since no speed had been measured.',
    registers,
  });
  const regret = new Counter({
    name: 'radixkv_regret_tokens_total',
    help: 'Prompt tokens computed only since their chunks had been evicted, by the tier that had them last.',
    labelNames: ['tier'],
    registers,
  });
  const evictions = new Counter({
    name: 'radixkv_evictions_total',
    help: 'KV chunks evicted.',
    labelNames: ['tier', 'reason'],
    registers,
  });
  const preemptions = new Counter({
    name: 'radixkv_preemptions_total',
    help: 'How often a request that was computed gave way to another one.',
    registers,
  });
  const retries = new Counter({
    name: 'radixkv_retries_total',
    help: 'How often a request was begun again after the engine failed.',
    registers,
  });
  const restarts = new Counter({
    name: 'radixkv_engine_restarts_total',
    help: 'How often the engine was lost and started again, or that was tried.',
    registers,
  });
  return () => {
    const all = [requests, errors, prompt, blended, completion, saved, unpriced, regret, evictions];
    for (const counter of [...all, preemptions, restarts, retries]) counter.reset();
    for (const endpoint of ENDPOINTS) {
      for (const outcome of OUTCOMES)
        requests.inc({ endpoint, outcome }, statistics.requests(endpoint, outcome));
    }
    for (const code of ERROR_CODES) errors.inc({ code }, statistics.errors(code));
    const { tokens } = statistics;
    for (const tier of TIERS) {
      prompt.inc({ source: tier }, tokens.cached[tier]);
      blended.inc({ tier }, tokens.blended[tier]);
    }
    prompt.inc({ source: 'blended' }, tokensOf(tokens.blended));
    prompt.inc({ source: 'computed' }, tokens.computed);
    completion.inc(tokens.completion);
    saved.inc(statistics.counts.savedUs / 1e6);
    unpriced.inc(statistics.counts.unpricedTokens);
    for (const [tier, computed] of Object.entries(regretOf(statistics.counts)))
      regret.inc({ tier }, computed);
    const {
      evictions: evicted,
      preemptions: gaveWay,
      retries: begunAgain,
      engineRestarts,
    } = statistics.gauges();
    preemptions.inc(gaveWay ?? 0);
    retries.inc(begunAgain ?? 0);
    restarts.inc(engineRestarts ?? 0);
    for (const { tier, reason, count } of evicted ?? []) {
      evictions.inc({ tier, reason }, count);
    }
  };
}

/** Returns what copies the counters of the disk tier; without one they have no samples. */
function diskCounters(statistics: Statistics, registers: Registry[]): () => void {
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `radixkv_${name}`, help, labelNames, registers });
  const bytes = counter('disk_bytes_total', 'Bytes of chunk files read and written.', 'direction');
  const demotions = counter('demotions_total', 'Chunks that were to go to disk, by outcome.', 'outcome');
  const promotions = counter(
    'promotions_total',
    'Chunks that were to come from disk, by outcome.',
    'outcome',
  );
  const faults = counter('disk_faults_total', 'What went wrong on disk or was mended, by kind.', 'fault');
  const skipped = counter('skipped_tokens_total', 'Prompt tokens on disk that were computed instead.');
  return () => {
    for (const each of [bytes, demotions, promotions, faults, skipped]) each.reset();
    const { disk } = statistics.gauges();
    if (disk === undefined) return;
    bytes.inc({ direction: 'read' }, disk.readBytes);
    bytes.inc({ direction: 'written' }, disk.writtenBytes);
    for (const [outcome, count] of Object.entries(disk.demotions)) demotions.inc({ outcome }, count);
    for (const [outcome, count] of Object.entries(disk.promotions)) promotions.inc({ outcome }, count);
    for (const [fault, count] of Object.entries(disk.faults)) faults.inc({ fault }, count);
    skipped.inc(disk.skippedTokens);
  };
}

function observeRemote(statistics: Statistics, registers: Registry[]): void {
  const seconds = new Histogram({
    name: 'radixkv_remote_seconds',
    help: 'Time of an operation of the remote tier, however it ended.',
    labelNames: ['operation'],
    buckets: REMOTE_SECONDS,
    registers,
  });
  statistics.events.on('remote', (operation, ms) => seconds.observe({ operation }, ms / 1000));
}

/** Returns what copies the counters of the remote tier; without one they have no samples. */
function remoteMetrics(statistics: Statistics, registers: Registry[]): () => void {
  const counter = (name: string, help: string, ...labelNames: string[]) =>
    new Counter({ name: `radixkv_remote_${name}`, help, labelNames, registers });
  const gauge = (name: string, help: string) =>
    new Gauge({ name: `radixkv_remote_${name}`, help, registers });
  const requests = counter('requests_total', 'Operations by how they went.', 'operation', 'outcome');
  const bytes = counter('bytes_total', 'Bytes of chunks read and written.', 'direction');
  const errors = counter('errors_total', 'Why operations failed.', 'kind');
  const reads = counter('reads_total', 'Chunks that prompts wanted, by outcome.', 'outcome');
  const writes = counter('writes_total', 'Chunks that were to be kept there, by outcome.', 'outcome');
  const trips = counter('breaker_trips_total', 'How often the circuit breaker opened.');
  const skipped = counter('skipped_tokens_total', 'Prompt tokens there that were computed instead.');
  const state = gauge('state', 'Its circuit breaker: 0 closed (it is used), 1 half-open, 2 open.');
  const queued = gauge('queue_chunks', 'Chunks on their way there.');
  const speed = gauge('load_bytes_per_second', 'Speed of loads from there, measured.');
  return () => {
    for (const each of [requests, bytes, errors, reads, writes, trips, skipped]) each.reset();
    const { remote } = statistics.gauges();
    setOrRemove(state, remote && REMOTE_STATES.indexOf(remote.state));
    setOrRemove(queued, remote?.queuedChunks);
    setOrRemove(speed, remote?.loadBytesPerS);
    if (remote === undefined) return;
    for (const [operation, { ok, failed }] of Object.entries(remote.requests)) {
      requests.inc({ operation, outcome: 'ok' }, ok);
      requests.inc({ operation, outcome: 'failed' }, failed);
    }
    bytes.inc({ direction: 'read' }, remote.readBytes);
    bytes.inc({ direction: 'written' }, remote.writtenBytes);
    for (const [kind, count] of Object.entries(remote.errors)) errors.inc({ kind }, count);
    for (const [outcome, count] of Object.entries(remote.reads)) reads.inc({ outcome }, count);
    for (const [outcome, count] of Object.entries(remote.writes)) writes.inc({ outcome }, count);
    trips.inc(remote.trips);
    skipped.inc(remote.skippedTokens);
  };
}

/** Returns what copies the bytes between host and GPU; without a GPU they have no samples. */
function busCounters(statistics: Statistics, registers: Registry[]): () => void {
  const bytes = new Counter({
    name: 'radixkv_device_bus_bytes_total',
    help: 'Bytes between host and GPU.',
    labelNames: ['direction', 'kind'],
    registers,
  });
  return () => {
    bytes.reset();
    const { bus } = statistics.gauges();
    if (bus === undefined) return;
    for (const { direction, kind, of } of BUS_KINDS) bytes.inc({ direction, kind }, bus[of]);
  };
}

/** Returns what copies the counters of the history; without one they have no samples. */
function historyCounters(statistics: Statistics, registers: Registry[]): () => void {
  const faults = new Counter({
    name: 'radixkv_history_faults_total',
    help: 'What went wrong with the database of statistics, by kind.',
    labelNames: ['fault'],
    registers,
  });
  const lost = new Counter({
    name: 'radixkv_history_lost_requests_total',
    help: 'Requests that will never be in the database of statistics.',
    registers,
  });
  return () => {
    faults.reset();
    lost.reset();
    const { history } = statistics.gauges();
    for (const [fault, count] of Object.entries(history?.faults ?? {})) faults.inc({ fault }, count);
    lost.inc(history?.lostRequests ?? 0);
  };
}

/** Returns what copies the counters of traces; without any they have no samples. */
function traceCounters(statistics: Statistics, registers: Registry[]): () => void {
  const spans = new Counter({
    name: 'radixkv_trace_spans_total',
    help: 'Spans of traces by what became of them.',
    labelNames: ['outcome'],
    registers,
  });
  return () => {
    spans.reset();
    for (const [outcome, count] of Object.entries(statistics.gauges().traces?.spans ?? {}))
      spans.inc({ outcome }, count);
  };
}

function setOrRemove(target: Gauge, value: number | undefined, labels: Record<string, string> = {}): void {
  if (value === undefined) target.remove(labels);
  else target.set(labels, value);
}

/** Returns what copies the present state into the registry; an unknown value has no sample. */
function gauges(statistics: Statistics, registers: Registry[]): () => void {
  const gauge = (name: string, help: string, labelNames: string[] = []) =>
    new Gauge({ name: `radixkv_${name}`, help, labelNames, registers });
  const bytes = gauge('tier_bytes', 'Bytes of KV on a tier.', ['tier']);
  const capacity = gauge('tier_capacity_bytes', 'Bytes of KV that a tier may hold.', ['tier']);
  const classBytes = gauge('tier_class_bytes', 'Bytes of KV of whole prompts and of passages on a tier.', [
    'tier',
    'class',
  ]);
  const ready = gauge('ready', '1 when requests are taken, 0 when not.');
  const active = gauge('active_sequences', 'Sequences that prefill or decode.');
  const queued = gauge('queued_requests', 'Requests that wait for their prefill.');
  const nodes = gauge('radix_nodes', 'Nodes of the radix trees.');
  const chunks = gauge('cached_chunks', 'KV chunks that the radix trees name.');
  const queuedChunks = gauge('demotion_queue_chunks', 'Chunks on their way to disk.');
  const prefillSpeed = gauge(
    'prefill_tokens_per_second',
    'Speed of prefill, measured; what loads are compared with.',
  );
  const loadSpeed = gauge('load_bytes_per_second', 'Speed of loads from disk, measured.');
  return () => {
    const reading = statistics.gauges();
    for (const tier of TIERS) {
      setOrRemove(bytes, reading.tiers[tier]?.bytes, { tier });
      setOrRemove(capacity, reading.tiers[tier]?.capacityBytes, { tier });
      for (const [name, { bytes: held }] of Object.entries(reading.tiers[tier]?.classes ?? {})) {
        classBytes.set({ tier, class: name }, held);
      }
    }
    setOrRemove(ready, reading.isReady === undefined ? undefined : Number(reading.isReady));
    setOrRemove(active, reading.activeSequences);
    setOrRemove(queued, reading.queuedRequests);
    setOrRemove(nodes, reading.radixNodes);
    setOrRemove(chunks, reading.cachedChunks);
    setOrRemove(queuedChunks, reading.disk?.queuedChunks);
    setOrRemove(prefillSpeed, (reading.disk ?? reading.remote)?.prefillTokensPerS);
    setOrRemove(loadSpeed, reading.disk?.loadBytesPerS);
  };
}

/** Registers all metrics, those of the process included. */
export function createMetrics(statistics: Statistics): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  observeTimings(statistics, [registry]);
  copyHistograms(statistics, [registry]);
  const copyCounters = counters(statistics, [registry]);
  const copyDiskCounters = diskCounters(statistics, [registry]);
  observeRemote(statistics, [registry]);
  const copyRemoteMetrics = remoteMetrics(statistics, [registry]);
  const copyBusCounters = busCounters(statistics, [registry]);
  const copyHistoryCounters = historyCounters(statistics, [registry]);
  const copyTraceCounters = traceCounters(statistics, [registry]);
  const copyGauges = gauges(statistics, [registry]);
  return {
    contentType: registry.contentType,
    scrape: () => {
      copyCounters();
      copyDiskCounters();
      copyRemoteMetrics();
      copyBusCounters();
      copyHistoryCounters();
      copyTraceCounters();
      copyGauges();
      return registry.metrics();
    },
  };
}
