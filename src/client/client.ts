/**
 * A client for what is beside completions: statistics, the cache, documents, models, health. Completions have clients of
 * their own, OpenAI's and Anthropic's.
 *
 * Names of fields are the API's (docs/api.md). Needs `fetch` and nothing else: Node 20 or a browser.
 */
import { cacheEvents, type EventsOptions } from './event-stream.js';
import { type CallOptions, type RadixkvClientOptions, sleep, Transport } from './transport.js';
import type * as types from './types.js';

export interface WaitOptions extends CallOptions {
  /** How often to ask. Default: 500. */
  readonly pollMs?: number;
}

export interface WarmWaitOptions extends WaitOptions {
  readonly onProgress?: (job: types.WarmJob) => void;
}

const POLL_MS = 500;
/** Of the body of one batch, in characters: far below what a request may have. */
const BATCH_CHARACTERS = 4_000_000;

const part = encodeURIComponent;

/** All methods throw RadixkvApiError when the server refuses, and what `fetch` throws when it can't be reached. */
export class RadixkvClient {
  readonly models: Models;
  readonly warming: Warming;
  readonly pins: Pins;
  readonly shared: Shared;
  readonly documents: Documents;
  readonly #transport: Transport;

  constructor(options: RadixkvClientOptions) {
    this.#transport = new Transport(options);
    this.models = new Models(this.#transport);
    this.warming = new Warming(this.#transport);
    this.pins = new Pins(this.#transport);
    this.shared = new Shared(this.#transport);
    this.documents = new Documents(this.#transport);
  }

  /** Whether the process runs. */
  live(options?: CallOptions): Promise<types.Live> {
    return this.#transport.json({ path: 'health/live', ...options });
  }

  /** Whether completions would be taken now; that they would not is no error. */
  async ready(options?: CallOptions): Promise<types.Readiness> {
    const response = await this.#transport.open({ path: 'health/ready', ...options });
    return JSON.parse(await response.text());
  }

  /** Since the process started, and what the cache holds now. */
  statistics(options?: CallOptions): Promise<types.ProcessStatistics> {
    return this.#transport.json({ path: 'v1/cache/stats', ...options });
  }

  /** Of what ended in a time, over restarts. */
  windowStatistics(query: types.WindowQuery, options?: CallOptions): Promise<types.WindowStatistics> {
    // Without a parameter another question is asked.
    return this.#transport.json({ path: 'v1/cache/stats', query: { window: 'all', ...query }, ...options });
  }

  /** In the steps of a time. */
  history(query: types.HistoryQuery = {}, options?: CallOptions): Promise<types.StatisticsHistory> {
    return this.#transport.json({ path: 'v1/cache/stats/history', query, ...options });
  }

  /** What a request with this prompt would find now. */
  lookup(body: types.PromptQuestion, options?: CallOptions): Promise<types.CacheLookup> {
    return this.#transport.json({ method: 'POST', path: 'v1/cache/lookup', body, ...options });
  }

  /** Where a prompt leaves what is cached, and what stands there instead. */
  explain(body: types.PromptQuestion, options?: CallOptions): Promise<types.CacheExplanation> {
    return this.#transport.json({ method: 'POST', path: 'v1/cache/explain', body, ...options });
  }

  /** Forgets all that the key has. */
  clear(query: types.ClearQuery = {}, options?: CallOptions): Promise<types.CacheCleared> {
    return this.#transport.json({ method: 'DELETE', path: 'v1/cache', query, ...options });
  }

  /** Forgets what begins with a prompt: a chat's messages, and all that goes on from them. */
  clearPrefix(
    body: types.PromptQuestion,
    query: Omit<types.ClearQuery, 'by'> = {},
    options?: CallOptions,
  ): Promise<types.CacheCleared> {
    const call = { method: 'DELETE', path: 'v1/cache', query: { ...query, by: 'prefix' }, body } as const;
    return this.#transport.json({ ...call, ...options });
  }

  /**
   * What is cached below the device, of a prompt or all, as one archive that comes as it is made. It has no timeout but
   * that of the signal, and is not tried again.
   */
  async exportArchive(
    body: types.ExportOrder,
    query: types.ArchiveQuery = {},
    options: Pick<CallOptions, 'signal'> = {},
  ): Promise<ReadableStream<Uint8Array>> {
    const call = { method: 'POST', path: 'v1/cache/export', query, body, ...options } as const;
    const response = await this.#transport.opened(call);
    return response.body ?? new Blob([]).stream();
  }

  /**
   * Takes in an archive; of a file, `openAsBlob` of `node:fs` does not read it into memory. Has no timeout but that of
   * the signal, and is not tried again.
   */
  async importArchive(
    archive: Blob,
    query: types.ArchiveQuery = {},
    options: Pick<CallOptions, 'signal'> = {},
  ): Promise<types.CacheImport> {
    const call = { method: 'POST', path: 'v1/cache/import', query, archive, ...options } as const;
    const response = await this.#transport.opened(call);
    return JSON.parse(await response.text());
  }

  /** What the KV of each tenant takes, for admins; for others of their own. */
  tenants(query: types.HoldingsQuery = {}, options?: CallOptions): Promise<types.TenantHoldings> {
    return this.#transport.json({ path: 'v1/cache/tenants', query, ...options });
  }

  /** The requests that ended last, the newest first. */
  requests(query: types.RequestsQuery = {}, options?: CallOptions): Promise<types.RecentRequests> {
    return this.#transport.json({ path: 'v1/requests', query, ...options });
  }

  /** One of them, with the texts where it missed. */
  request(id: string, options?: CallOptions): Promise<types.RequestDetails> {
    return this.#transport.json({ path: `v1/requests/${part(id)}`, ...options });
  }

  /** The prefixes or documents that spared most tokens. */
  top(query: types.TopQuery = {}, options?: CallOptions): Promise<types.TopSavers> {
    return this.#transport.json({ path: 'v1/cache/top', query, ...options });
  }

  treePage(query: types.TreeQuery = {}, options?: CallOptions): Promise<types.TreePage> {
    return this.#transport.json({ path: 'v1/cache/tree', query, ...options });
  }

  /** The nodes right below a place, the largest first, page after page. */
  async *tree(
    query: types.TreeQuery = {},
    options?: CallOptions,
  ): AsyncGenerator<types.TreeNode, void, void> {
    let offset = query.offset ?? 0;
    for (let hasMore = true; hasMore; ) {
      const page = await this.treePage({ ...query, offset }, options);
      yield* page.data;
      offset += page.data.length;
      hasMore = page.has_more;
    }
  }

  /**
   * What happens to the key's chunks, from now on or after an event, without end: until the signal fires, which throws
   * its reason, or the reader stops. Goes on after disconnects; what was missed is told by a `Gap`.
   */
  events(
    query: types.EventsQuery = {},
    options: EventsOptions = {},
  ): AsyncGenerator<types.CacheEvent, void, void> {
    return cacheEvents(this.#transport, query, options);
  }
}

class Models {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  list(options?: CallOptions): Promise<types.ModelPage> {
    return this.#transport.json({ path: 'v1/models', ...options });
  }

  get(id: string, options?: CallOptions): Promise<types.Model> {
    return this.#transport.json({ path: `v1/models/${part(id)}`, ...options });
  }
}

/** Prompts that are computed ahead of time. */
class Warming {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  start(body: types.WarmOrder, options?: CallOptions): Promise<types.WarmJob> {
    return this.#transport.json({ method: 'POST', path: 'v1/cache/warm', body, ...options });
  }

  get(id: string, options?: CallOptions): Promise<types.WarmJob> {
    return this.#transport.json({ path: `v1/cache/warm/${part(id)}`, ...options });
  }

  cancel(id: string, options?: CallOptions): Promise<types.WarmJob> {
    return this.#transport.json({ method: 'DELETE', path: `v1/cache/warm/${part(id)}`, ...options });
  }

  /** Until the job is done or cancelled. */
  async wait(
    id: string,
    { pollMs = POLL_MS, onProgress, ...options }: WarmWaitOptions = {},
  ): Promise<types.WarmJob> {
    for (;;) {
      const job = await this.get(id, options);
      onProgress?.(job);
      if (job.status === 'done' || job.status === 'cancelled') return job;
      await sleep(pollMs, options.signal);
    }
  }
}

class Pins {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Answers when the prompt is computed: a long one may need a longer timeout. */
  create(body: types.PinOrder, options?: CallOptions): Promise<types.Pin> {
    return this.#transport.json({ method: 'POST', path: 'v1/cache/pins', body, ...options });
  }

  list(options?: CallOptions): Promise<types.PinList> {
    return this.#transport.json({ path: 'v1/cache/pins', ...options });
  }

  get(id: string, options?: CallOptions): Promise<types.Pin> {
    return this.#transport.json({ path: `v1/cache/pins/${part(id)}`, ...options });
  }

  delete(id: string, options?: CallOptions): Promise<types.PinDeleted> {
    return this.#transport.json({ method: 'DELETE', path: `v1/cache/pins/${part(id)}`, ...options });
  }
}

/** Public texts, whose KV tenants share that want to. For admins. */
class Shared {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Answers when the text is computed: a long one may need a longer timeout. */
  create(body: types.SharedOrder, options?: CallOptions): Promise<types.SharedText> {
    return this.#transport.json({ method: 'POST', path: 'v1/cache/shared', body, ...options });
  }

  list(options?: CallOptions): Promise<types.SharedList> {
    return this.#transport.json({ path: 'v1/cache/shared', ...options });
  }

  delete(id: string, options?: CallOptions): Promise<types.SharedDeleted> {
    return this.#transport.json({ method: 'DELETE', path: `v1/cache/shared/${part(id)}`, ...options });
  }
}

class Documents {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  put(id: string, body: types.DocumentOrder, options?: CallOptions): Promise<types.Document> {
    return this.#transport.json({ method: 'PUT', path: `v1/documents/${part(id)}`, body, ...options });
  }

  /** Each is taken or refused by itself; errors name its place among all, from 1. */
  async putMany(
    documents: Iterable<types.NamedDocumentOrder> | AsyncIterable<types.NamedDocumentOrder>,
    options?: CallOptions,
  ): Promise<types.DocumentBatch> {
    const sum: types.DocumentBatch = { object: 'document.batch', accepted: 0, failed: 0, errors: [] };
    let lines = '';
    const send = async () => {
      const before = sum.accepted + sum.failed;
      const { accepted, failed, errors } = await this.#putLines(lines, options);
      sum.accepted += accepted;
      sum.failed += failed;
      sum.errors.push(...errors.map((error) => ({ ...error, line: error.line + before })));
      lines = '';
    };
    for await (const document of documents) {
      lines += `${JSON.stringify(document)}\n`;
      if (lines.length >= BATCH_CHARACTERS) await send();
    }
    if (lines !== '') await send();
    return sum;
  }

  #putLines(lines: string, options?: CallOptions): Promise<types.DocumentBatch> {
    return this.#transport.json({ method: 'POST', path: 'v1/documents/batch', lines, ...options });
  }

  get(id: string, options?: CallOptions): Promise<types.Document> {
    return this.#transport.json({ path: `v1/documents/${part(id)}`, ...options });
  }

  delete(id: string, options?: CallOptions): Promise<types.DocumentDeleted> {
    return this.#transport.json({ method: 'DELETE', path: `v1/documents/${part(id)}`, ...options });
  }

  /** By id, page after page. */
  async *list(
    query: types.DocumentsQuery = {},
    options?: CallOptions,
  ): AsyncGenerator<types.Document, void, void> {
    let { after } = query;
    for (let hasMore = true; hasMore; ) {
      const asked = { ...query, ...(after !== undefined && { after }) };
      const page = await this.#transport.json<types.DocumentPage>({
        path: 'v1/documents',
        query: asked,
        ...options,
      });
      yield* page.data;
      after = page.last_id ?? undefined;
      hasMore = page.has_more;
    }
  }

  /** Until its KV is computed, or could not be. */
  async wait(id: string, { pollMs = POLL_MS, ...options }: WaitOptions = {}): Promise<types.Document> {
    for (;;) {
      const document = await this.get(id, options);
      if (document.status === 'ready' || document.status === 'failed') return document;
      await sleep(pollMs, options.signal);
    }
  }
}
