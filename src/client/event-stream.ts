/**
 * Cache events, however often the connection breaks: it is opened again after the last event that was read, which the
 * server numbers. Events that it no longer has are told by a `Gap`.
 */
import { errorOf, RadixkvApiError } from './api-error.js';
import { sleep, type Transport } from './transport.js';
import type { CacheEvent, EventsQuery } from './types.js';

/** The server sends something every 15 s; a connection that is silent for so long is taken for dead. */
const SILENCE_MS = 45_000;
const WAIT_MS = 500;
const WAIT_MAX_MS = 10_000;

export interface EventsOptions {
  readonly signal?: AbortSignal;
  /** Called when the connection broke, with why, before it is opened again. */
  readonly onDisconnect?: (cause: unknown) => void;
}

interface Frame {
  readonly id: number | undefined;
  readonly data: string | undefined;
}

function frameOf(text: string): Frame {
  const id = /^id: (\d+)$/m.exec(text)?.[1];
  return { id: id === undefined ? undefined : Number(id), data: /^data: (.*)$/m.exec(text)?.[1] };
}

/** The frames of one connection, to its end. */
async function* framesOf(
  body: ReadableStream<Uint8Array>,
  onPiece: () => void,
): AsyncGenerator<Frame, void, void> {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let rest = '';
  try {
    for (let read = await reader.read(); !read.done; read = await reader.read()) {
      onPiece();
      const texts = (rest + decoder.decode(read.value, { stream: true })).split('\n\n');
      rest = texts.pop() ?? '';
      for (const text of texts) yield frameOf(text);
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

/** Fires when nobody called `again` for so long. */
class Silence {
  readonly #aborter = new AbortController();
  #timer: ReturnType<typeof setTimeout> | undefined;

  get signal(): AbortSignal {
    return this.#aborter.signal;
  }

  readonly again = (): void => {
    this.end();
    this.#timer = setTimeout(() => this.#aborter.abort(new Error('The server is silent.')), SILENCE_MS);
  };

  end(): void {
    clearTimeout(this.#timer);
  }
}

/** Trying again would be answered alike. */
function isFinal(error: unknown): boolean {
  return error instanceof RadixkvApiError && error.status < 500 && error.status !== 429;
}

/** Without end: until the signal fires, which throws its reason, or the reader stops. @throws RadixkvApiError of 4xx */
export async function* cacheEvents(
  transport: Transport,
  query: EventsQuery,
  { signal, onDisconnect }: EventsOptions,
): AsyncGenerator<CacheEvent, void, void> {
  let after = query.after;
  let waitMs = WAIT_MS;
  for (;;) {
    const silence = new Silence();
    silence.again();
    const ending = signal === undefined ? silence.signal : AbortSignal.any([silence.signal, signal]);
    try {
      const asked = { ...query, ...(after !== undefined && { after }) };
      const response = await transport.open({ path: 'v1/cache/events', query: asked, signal: ending });
      if (!response.ok || response.body === null) throw await errorOf(response);
      for await (const { id, data } of framesOf(response.body, silence.again)) {
        after = id ?? after;
        waitMs = WAIT_MS;
        if (data !== undefined) yield JSON.parse(data);
      }
      onDisconnect?.(new Error('The server ended the stream.'));
    } catch (error) {
      signal?.throwIfAborted();
      if (isFinal(error)) throw error;
      onDisconnect?.(error);
    } finally {
      silence.end();
    }
    await sleep(waitMs, signal);
    waitMs = Math.min(2 * waitMs, WAIT_MAX_MS);
  }
}
