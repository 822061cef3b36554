/**
 * The border between the API and what serves it: one completion request in, a stream of events out.
 *
 * The API validates HTTP and knows the OpenAI shapes; the service knows tokens, the cache and the engine. Neither
 * knows the other's words.
 */
import type { SelectorName } from '#blend';
import type { RequestCourse } from './course.js';
import type { RequestTrace } from './request-trace.js';

export interface ChatMessage {
  readonly role: 'system' | 'developer' | 'user' | 'assistant' | 'tool';
  /** Text parts are joined by the API; the model sees one string. */
  readonly content: string;
  readonly name?: string;
}

/** A passage of a prompt: its text, or the id of one that was stored before. */
export type PromptDocument =
  | { readonly id: string | undefined; readonly title: string | undefined; readonly text: string }
  | { readonly id: string };

export type Prompt =
  | {
      readonly kind: 'chat';
      readonly messages: readonly ChatMessage[];
      /** In the order the model reads them; ids are unique. */
      readonly documents: readonly PromptDocument[];
    }
  | { readonly kind: 'text'; readonly text: string }
  | { readonly kind: 'tokens'; readonly tokens: readonly number[] };

/** How the next token is drawn. Temperature 0 is greedy. All fields are set; the API applies the defaults. */
export interface SamplingParams {
  readonly temperature: number;
  /** In [0, 1]; the most likely token is always kept, so 0 keeps it alone. */
  readonly topP: number;
  /** 0 keeps all tokens. */
  readonly topK: number;
  readonly minP: number;
  readonly seed: number | undefined;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
  /** Token id → bias added to its logit, in [-100, 100]. */
  readonly logitBias: ReadonlyMap<number, number>;
  /** Number of most likely alternatives to report per token; `undefined` reports no log probabilities. */
  readonly topLogprobs: number | undefined;
}

/** Always the most likely token, nothing reported. */
export const GREEDY: SamplingParams = {
  temperature: 0,
  topP: 1,
  topK: 0,
  minP: 0,
  seed: undefined,
  presencePenalty: 0,
  frequencyPenalty: 0,
  logitBias: new Map(),
  topLogprobs: undefined,
};

/**
 * How a request may use the cache.
 * - `auto`: `blend` where the model's profile says that answers stay close enough, else `exact`;
 * - `exact`: only KV that equals a full prefill's;
 * - `blend`: KV of documents too, wherever they stood, of which some tokens are recomputed;
 * - `off`: no KV of others, and none is kept.
 */
export const CACHE_MODES = ['auto', 'exact', 'blend', 'off'] as const;
export type CacheMode = (typeof CACHE_MODES)[number];

export interface CacheControl {
  readonly mode: CacheMode;
  /** Share of the reused tokens that is recomputed, 0 to 1. Undefined: the profile's. Only where blending may happen. */
  readonly recomputeRatio: number | undefined;
  readonly selector: SelectorName | undefined;
  /** Tell in the last event which tokens came from where. */
  readonly explain: boolean;
}

export const DEFAULT_CACHE: CacheControl = {
  mode: 'auto',
  recomputeRatio: undefined,
  selector: undefined,
  explain: false,
};

export interface CompletionRequest {
  readonly id: string;
  readonly prompt: Prompt;
  /** Field that error messages blame for the prompt: `messages` or `prompt`. */
  readonly promptField: 'messages' | 'prompt';
  /** Who asks: owns stored documents and has a fair share of the engine. 64 hex digits, or `''`. */
  readonly tenant: string;
  /** Isolation: sequences of different namespaces never share KV. The tenant, or a part of it that a salt sets apart. */
  readonly namespace: string;
  /** Called once with the number of prompt tokens, before they are computed; what it throws refuses the request. */
  readonly chargeTokens?: (tokens: number) => void;
  readonly n: number;
  /** `undefined`: up to the end of the context. */
  readonly maxTokens: number | undefined;
  readonly stop: readonly string[];
  readonly sampling: SamplingParams;
  readonly cache: CacheControl;
  /** Requests with a lower number go first, and others give way to them. */
  readonly priority: number;
  /** Milliseconds from its arrival within which the first token is wanted, or no answer at all. */
  readonly deadlineMs: number | undefined;
  /** Fires when the client goes away: the service frees everything the request holds. */
  readonly signal: AbortSignal;
  /** Absent: nobody traces it. */
  readonly trace?: RequestTrace;
}

export interface TokenLogprob {
  readonly token: string;
  readonly bytes: readonly number[];
  readonly logprob: number;
  readonly top: readonly {
    readonly token: string;
    readonly bytes: readonly number[];
    readonly logprob: number;
  }[];
}

export type FinishReason = 'stop' | 'length';

/** Where cached KV may come from, fastest first. */
export const TIERS = ['device', 'host', 'disk', 'remote'] as const;
export type Tier = (typeof TIERS)[number];

/** Tokens by the tier their KV came from. */
export type TierTokens = Readonly<Record<Tier, number>>;

export const NO_TOKENS: TierTokens = { device: 0, host: 0, disk: 0, remote: 0 };

/** One number for each tier. */
export function mapTiers(tokens: (tier: Tier) => number): TierTokens {
  return {
    device: tokens('device'),
    host: tokens('host'),
    disk: tokens('disk'),
    remote: tokens('remote'),
  };
}

export function plus(a: TierTokens, b: TierTokens): TierTokens {
  return mapTiers((tier) => a[tier] + b[tier]);
}

/** Of all tiers. */
export function tokensOf(tokens: TierTokens): number {
  return TIERS.reduce((sum, tier) => sum + tokens[tier], 0);
}

/** Prompt tokens by where their KV came from; the parts add up to `promptTokens`. */
export interface PromptUsage {
  readonly promptTokens: number;
  /** Exact: their KV equals a full prefill's. */
  readonly cachedTokens: TierTokens;
  /** Of documents at other positions, or of a blended prompt that this one continues; not recomputed. */
  readonly blendedTokens: TierTokens;
  /** Recomputed tokens of documents are among them. */
  readonly computedTokens: number;
}

export interface Usage extends PromptUsage {
  readonly completionTokens: number;
}

/** What blending took, in milliseconds of the engine; reading from disk is in `loadMs` of the timings. */
export interface BlendTimings {
  /** Prefilling documents that were not cached, each alone. */
  readonly prepareMs: number;
  /** Copying KV of documents to their places in the prompt. */
  readonly loadMs: number;
  /** Moving keys to their positions. */
  readonly rotateMs: number;
  /** Choosing what to recompute. */
  readonly selectMs: number;
  /** Computing chosen and new tokens. */
  readonly recomputeMs: number;
}

/** Prompt positions, half-open. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

/** Where each token of a prompt came from: the spans of prefix, documents and new tokens cover it once. */
export interface BlendExplanation {
  /** Whether it was blended, and why not. */
  readonly outcome:
    | 'blended'
    | 'exact'
    | 'no_documents'
    | 'not_profiled'
    | 'quality_bound'
    | 'not_movable'
    | 'too_long'
    | 'in_prefix';
  /** Undefined unless blended. */
  readonly selector: SelectorName | undefined;
  readonly ratio: number | undefined;
  readonly prefixTokens: number;
  readonly documents: readonly (Span & {
    /** In the request. */
    readonly index: number;
    readonly id: string | undefined;
    /** Its KV came from a tier, was, at least in part, prefilled alone for this request, or stands in the prefix. */
    readonly source: Tier | 'computed' | 'prefix';
  })[];
  /** Positions of reused tokens that were recomputed, ascending. */
  readonly recomputed: readonly number[];
}

export interface Timings {
  /** Until the prefill began; loading is part of it. */
  readonly queueMs: number;
  /** Reading chunks of the prompt from disk and the remote tier, while others may have computed. */
  readonly loadMs: number;
  readonly prefillMs: number;
  /** Parts of `prefillMs`; undefined when nothing was blended. */
  readonly blend: BlendTimings | undefined;
  readonly decodeMs: number;
  /** From the arrival of the request to its first token. */
  readonly ttftMs: number;
}

export type CompletionEvent =
  /** Exactly once, first, when the prompt is computed: what the end event says of it too. */
  | { readonly type: 'prompt'; readonly usage: PromptUsage }
  /** Text of choice `index`; never ends within a UTF-8 character. `logprobs` are those of the tokens in `text`. */
  | {
      readonly type: 'delta';
      readonly index: number;
      readonly text: string;
      readonly logprobs?: readonly TokenLogprob[];
    }
  /** Exactly once for each choice, after its last delta. `stopString`: the one that ended it, if one did. */
  | {
      readonly type: 'finish';
      readonly index: number;
      readonly reason: FinishReason;
      readonly stopString?: string;
    }
  /** Exactly once, last. */
  | {
      readonly type: 'end';
      readonly usage: Usage;
      readonly timings: Timings;
      /** Only where the request wanted it, and its prompt was computed. */
      readonly explanation?: BlendExplanation;
      /** What it went through; absent where the service tells nothing of it. */
      readonly course?: RequestCourse;
    };

export interface ModelCard {
  readonly id: string;
  /** Seconds since the epoch. */
  readonly created: number;
  readonly contextTokens: number;
  /** Short text that changes whenever equal requests may give other answers: weights, format, engine. */
  readonly fingerprint?: string;
}

export interface CompletionService {
  readonly model: ModelCard;
  /** True when the engine has a live worker and is not shutting down. */
  ready(): { readonly ready: true } | { readonly ready: false; readonly reason: string };
  /**
   * Admits the request and streams its events.
   *
   * @throws RadixkvError before the first event for requests that can't be served (`context_length_exceeded`,
   * `queue_full`, `engine_failed`, …), or later if the engine fails while it runs. After an abort it
   * yields nothing more but, optionally, one `end` with what had been used until then, and ends without an error.
   */
  complete(request: CompletionRequest): AsyncIterable<CompletionEvent>;
}
