/**
 * What was served since the start: the one place where requests and tokens are counted.
 *
 * Invariants: a request is counted once, at its end; prompt tokens = Σ cached + Σ blended + computed, as the
 * service reports them. Requests that end without a report (refused, failed, some aborted) count no tokens. What the tiers and the
 * tree hold is not counted here but read through a port when someone asks; who wants counts by group or time adds up
 * those of the `record` event.
 */
import { EventEmitter } from 'node:events';
import type { RemoteOperation } from '#storage';
import type { BusBytes } from '../engine/device.js';
import type { ErrorCode } from '../errors.js';
import type { HistogramReading } from '../histogram.js';
import type { Tier, TierTokens, Timings, Usage } from './completion.js';
import { addCounts, blendedOf, type Counts, cachedOf, countsOf, noCounts, type Outcome } from './counts.js';
import type { RequestCourse } from './course.js';

export type { Outcome } from './counts.js';

export const ENDPOINTS = ['chat.completions', 'completions', 'messages'] as const;
export type Endpoint = (typeof ENDPOINTS)[number];

/** One request at its end. `report` and `course` are what the service said in its `end` event, if it came to that. */
export interface RequestRecord {
  /** As in its answer. */
  readonly id: string;
  /** That of the header. */
  readonly requestId: string;
  readonly endpoint: Endpoint;
  /** The short id of the API key. */
  readonly tenant: string;
  /** The namespace of the tenant: who may see what the request was. */
  readonly owner: string;
  /** That of the server, whatever the request asked for. */
  readonly model: string;
  readonly outcome: Outcome;
  readonly report?: { readonly usage: Usage; readonly timings: Timings; readonly choices: number };
  readonly course?: RequestCourse;
  /** Why it was refused or failed. */
  readonly error?: ErrorCode;
  /** From its coming to its end, in milliseconds. */
  readonly wallMs: number;
}

export interface TierReading {
  readonly bytes: number;
  /** What it would be if nothing was shared; absent where that is not counted. */
  readonly logicalBytes?: number;
  readonly capacityBytes: number;
  readonly chunks: number;
  /** Of whole prompts (`prefix`) and of passages (`segment`); absent where they are not told apart. */
  readonly classes?: Readonly<Record<string, ClassReading>>;
}

export interface ClassReading {
  readonly bytes: number;
  readonly chunks: number;
  /** What it is sure of. */
  readonly shareBytes: number;
}

/** Of the chunks that a tier evicted to make room since the start. */
export interface LivesReading {
  /** Seconds that they had been there. */
  readonly ageS: HistogramReading;
  /** Requests that had used each there. */
  readonly uses: HistogramReading;
  /** Seconds until they were computed again, of those that were and that no other tier had. */
  readonly regretS: HistogramReading;
}

/** What happened between memory and disk since the start. */
export interface DiskReading {
  readonly state: 'opening' | 'open' | 'closing' | 'closed';
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** Chunks on their way to disk now. */
  readonly queuedChunks: number;
  /** Chunks that were to go to disk, by what became of them. */
  readonly demotions: Readonly<Record<string, number>>;
  /** Chunks that were to come back, likewise. */
  readonly promotions: Readonly<Record<string, number>>;
  /** What went wrong or was mended, by kind. */
  readonly faults: Readonly<Record<string, number>>;
  /** Prompt tokens on disk that were computed, since that was faster or memory to load them was short. */
  readonly skippedTokens: number;
  /** As measured; undefined before the first time. */
  readonly prefillTokensPerS: number | undefined;
  readonly loadBytesPerS: number | undefined;
}

/** What happened between memory and the remote tier since the start. */
export interface RemoteReading {
  /** Of its circuit breaker: `closed` means that it is used. */
  readonly state: 'closed' | 'half-open' | 'open';
  /** Why it is not. */
  readonly reason: string | undefined;
  /** How often the breaker opened. */
  readonly trips: number;
  /** Whether the server refused a write a moment ago. */
  readonly isWritingPaused: boolean;
  /** Chunks on their way there now. */
  readonly queuedChunks: number;
  readonly readBytes: number;
  readonly writtenBytes: number;
  /** By operation. */
  readonly requests: Readonly<Record<string, { readonly ok: number; readonly failed: number }>>;
  /** By kind. */
  readonly errors: Readonly<Record<string, number>>;
  /** Chunks that prompts wanted from there, and that were to be kept there, by what became of them. */
  readonly reads: Readonly<Record<string, number>>;
  readonly writes: Readonly<Record<string, number>>;
  /** Prompt tokens that were there and computed, since that was faster or memory to load them was short. */
  readonly skippedTokens: number;
  /** As measured; undefined before the first time. */
  readonly prefillTokensPerS: number | undefined;
  readonly loadBytesPerS: number | undefined;
}

/** What became of counts over time, since the start. */
export interface HistoryReading {
  /** What went wrong with the database, by kind. */
  readonly faults: Readonly<Record<string, number>>;
  /** Requests that wait to be written. */
  readonly unwrittenRequests: number;
  /** Requests that will never be in the history. */
  readonly lostRequests: number;
}

/** What became of spans of traces, since the start. */
export interface TraceReading {
  /** By outcome: sent, dropped (too many waited), failed (the collector did not take them). */
  readonly spans: Readonly<Record<string, number>>;
}

/** The present state of cache and scheduler; a field that can't be known is left out. */
export interface GaugeReading {
  readonly tiers: Readonly<Partial<Record<Tier, TierReading>>>;
  readonly radixNodes?: number;
  /** KV chunks that the tree names, on any tier. */
  readonly cachedChunks?: number;
  /** Sequences that prefill or decode. */
  readonly activeSequences?: number;
  readonly queuedRequests?: number;
  /** How often an active request gave way, since the start. */
  readonly preemptions?: number;
  /** How often a request was begun again after the engine failed, since the start. */
  readonly retries?: number;
  /** Whether requests are taken. */
  readonly isReady?: boolean;
  /** How often the engine was lost and started again, or that was tried, since the start. */
  readonly engineRestarts?: number;
  readonly disk?: DiskReading;
  readonly remote?: RemoteReading;
  /** Bytes between host and GPU since the start; absent without one. */
  readonly bus?: BusBytes;
  /** Of counts over time; absent where none are kept. */
  readonly history?: HistoryReading;
  /** Absent where evicted chunks are not told apart, as on the device. */
  readonly lives?: Readonly<Partial<Record<Tier, LivesReading>>> | undefined;
  /** Absent where nothing is traced. */
  readonly traces?: TraceReading;
  /** Evictions since the start, by tier and reason. */
  readonly evictions?: readonly { readonly tier: string; readonly reason: string; readonly count: number }[];
}

export interface TokenTotals {
  readonly prompt: number;
  /** Exact. */
  readonly cached: TierTokens;
  readonly blended: TierTokens;
  readonly computed: number;
  readonly completion: number;
}

export class Statistics {
  readonly since: Date;
  /**
   * Emits `record` with each `RequestRecord`, and what it came to, after it is counted; and `remote` with each operation
   * of the remote tier, and the milliseconds that it took.
   */
  readonly events = new EventEmitter<{
    record: [RequestRecord, Counts];
    remote: [RemoteOperation, number];
  }>();
  readonly #gauges: () => GaugeReading;
  readonly #prefillTokensPerS: () => number | undefined;
  readonly #requests = new Map<string, number>();
  readonly #errors = new Map<ErrorCode, number>();
  readonly #counts = noCounts();

  /** `gauges` is called for every reading, and `prefillTokensPerS` for every request; they must be cheap and not throw. */
  constructor(ports: {
    readonly gauges: () => GaugeReading;
    /** As measured lately; undefined before the first time. */
    readonly prefillTokensPerS?: () => number | undefined;
    readonly now?: () => Date;
  }) {
    const { gauges, prefillTokensPerS = () => undefined, now = () => new Date() } = ports;
    this.#gauges = gauges;
    this.#prefillTokensPerS = prefillTokensPerS;
    this.since = now();
  }

  /** Counts a request. Call it once per request, at its end. */
  record(request: RequestRecord): void {
    const { endpoint, outcome, report, course } = request;
    const key = `${endpoint} ${outcome}`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
    const hasFirstToken = report !== undefined && report.usage.completionTokens > 0;
    const known = report && {
      usage: report.usage,
      ttftMs: hasFirstToken ? report.timings.ttftMs : undefined,
      regretted: course?.regretted,
    };
    const counts = countsOf(outcome, known, this.#prefillTokensPerS());
    addCounts(this.#counts, counts);
    this.events.emit('record', request, counts);
  }

  /** Counts an answer with an error, of any route. */
  countError(code: ErrorCode): void {
    this.#errors.set(code, this.errors(code) + 1);
  }

  errors(code: ErrorCode): number {
    return this.#errors.get(code) ?? 0;
  }

  requests(endpoint: Endpoint, outcome: Outcome): number {
    return this.#requests.get(`${endpoint} ${outcome}`) ?? 0;
  }

  /** Of all requests. */
  get counts(): Readonly<Counts> {
    return this.#counts;
  }

  get tokens(): TokenTotals {
    const counts = this.#counts;
    return {
      prompt: counts.promptTokens,
      cached: cachedOf(counts),
      blended: blendedOf(counts),
      computed: counts.computedTokens,
      completion: counts.completionTokens,
    };
  }

  gauges(): GaugeReading {
    return this.#gauges();
  }
}
