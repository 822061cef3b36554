/**
 * What was served since the start: the one place where requests and tokens are counted.
 *
 * Invariants: a request is counted once, at its end; prompt tokens = Σ cached + Σ blended + computed, as the
 * service reports them. Requests that end without a report (refused, failed, some aborted) count no tokens. What the tiers and the
 * tree hold is not counted here but read through a port when someone asks.
 */
import { EventEmitter } from 'node:events';
import { NO_TOKENS, type Tier, type TierTokens, type Timings, tokensOf, type Usage } from './completion.js';

export type Endpoint = 'chat.completions' | 'completions' | 'messages';

/** `refused`: a 4xx answer, 429 included. `failed`: a 5xx answer, or an error after the stream began. */
export type Outcome = 'completed' | 'aborted' | 'failed' | 'refused';

export const OUTCOMES: readonly Outcome[] = ['completed', 'aborted', 'failed', 'refused'];
export const ENDPOINTS: readonly Endpoint[] = ['chat.completions', 'completions', 'messages'];

/** One request at its end. `report` is what the service said in its `end` event, if it came to that. */
export interface RequestRecord {
  readonly endpoint: Endpoint;
  readonly outcome: Outcome;
  readonly report?: { readonly usage: Usage; readonly timings: Timings; readonly choices: number };
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
  readonly disk?: DiskReading;
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

function added(a: TierTokens, b: TierTokens): TierTokens {
  return { device: a.device + b.device, host: a.host + b.host, disk: a.disk + b.disk };
}

export class Statistics {
  readonly since: Date;
  /** Emits `record` with each `RequestRecord` after it is counted. */
  readonly events = new EventEmitter<{ record: [RequestRecord] }>();
  readonly #gauges: () => GaugeReading;
  readonly #requests = new Map<string, number>();
  #tokens: TokenTotals = { prompt: 0, cached: NO_TOKENS, blended: NO_TOKENS, computed: 0, completion: 0 };

  /** `gauges` is called for every reading; it must be cheap and not throw. */
  constructor({ gauges, now = () => new Date() }: { gauges: () => GaugeReading; now?: () => Date }) {
    this.#gauges = gauges;
    this.since = now();
  }

  /** Counts a request. Call it once per request, at its end. */
  record(request: RequestRecord): void {
    const key = `${request.endpoint} ${request.outcome}`;
    this.#requests.set(key, (this.#requests.get(key) ?? 0) + 1);
    if (request.report !== undefined) {
      const { usage } = request.report;
      const { prompt, cached, blended, computed, completion } = this.#tokens;
      this.#tokens = {
        prompt: prompt + usage.promptTokens,
        cached: added(cached, usage.cachedTokens),
        blended: added(blended, usage.blendedTokens),
        computed: computed + usage.computedTokens,
        completion: completion + usage.completionTokens,
      };
    }
    this.events.emit('record', request);
  }

  requests(endpoint: Endpoint, outcome: Outcome): number {
    return this.#requests.get(`${endpoint} ${outcome}`) ?? 0;
  }

  /** Over all endpoints. */
  requestsWith(outcome: Outcome): number {
    return ENDPOINTS.reduce((sum, endpoint) => sum + this.requests(endpoint, outcome), 0);
  }

  get tokens(): TokenTotals {
    return this.#tokens;
  }

  /** Share of prompt tokens whose KV was reused; `undefined` while there are no prompt tokens. */
  get hitRate(): number | undefined {
    const { prompt, cached, blended } = this.#tokens;
    return prompt === 0 ? undefined : (tokensOf(cached) + tokensOf(blended)) / prompt;
  }

  /** The same without blended tokens: what prefix reuse alone gave. */
  get exactHitRate(): number | undefined {
    const { prompt, cached } = this.#tokens;
    return prompt === 0 ? undefined : tokensOf(cached) / prompt;
  }

  gauges(): GaugeReading {
    return this.#gauges();
  }
}
