/**
 * What happens to chunks, as it happens, newest first. Paused or hidden, the stream is closed; it goes on after the last
 * event that was shown, as far as the server keeps them.
 */
import { LINES_MAX } from '../pace.js';
import { type Api, ApiError, type StreamEvent } from './api.js';
import { byId, html, setText } from './elements.js';

const RETRY_MS = 5000;

/** Of `GET /v1/cache/events`. */
interface CacheEvent {
  readonly type: string;
  readonly ts?: number;
  readonly block_hashes?: readonly string[];
  readonly token_ids?: readonly number[];
  readonly medium?: string;
  readonly cause?: string;
  readonly reason?: string | null;
  readonly state?: string;
  readonly from?: number;
  readonly to?: number;
}

function textOf(event: CacheEvent): string {
  const { type, block_hashes: keys = [], token_ids: tokens, medium, state, cause, reason } = event;
  if (type === 'Gap') return `events ${event.from} to ${event.to} were missed`;
  const words = [type, medium ?? state, cause ?? reason ?? undefined];
  if (keys.length > 0) words.push(`${keys[0]!.slice(0, 12)}${keys.length > 1 ? ` +${keys.length - 1}` : ''}`);
  if (tokens !== undefined) words.push(`${tokens.length} tokens`);
  return words.filter((word) => word !== undefined).join('  ');
}

export class EventLog {
  readonly #api: Api;
  readonly #lines = byId('log', HTMLElement);
  readonly #note = byId('log-note', HTMLElement);
  readonly #pause = byId('log-pause', HTMLButtonElement);
  #aborter = new AbortController();
  #last: number | undefined;
  #isPaused = false;

  constructor(api: Api) {
    this.#api = api;
    this.#pause.addEventListener('click', () => {
      this.#isPaused = !this.#isPaused;
      this.#pause.setAttribute('aria-pressed', String(this.#isPaused));
      this.#follow();
    });
    byId('log-clear', HTMLButtonElement).addEventListener('click', () => this.#lines.replaceChildren());
    document.addEventListener('visibilitychange', () => this.#follow());
    this.#follow();
  }

  /** Begins anew, for another API key. */
  restart(): void {
    this.#last = undefined;
    this.#lines.replaceChildren();
    this.#follow();
  }

  /** Opens the stream where it should be open, and closes the one before. */
  #follow(): void {
    this.#aborter.abort();
    this.#aborter = new AbortController();
    setText(this.#note, this.#isPaused ? 'Paused' : '');
    if (!this.#isPaused && document.visibilityState !== 'hidden') void this.#read(this.#aborter.signal);
  }

  async #read(signal: AbortSignal): Promise<void> {
    try {
      const query = this.#last === undefined ? '' : `?after=${this.#last}`;
      for await (const event of this.#api.events<CacheEvent>(`v1/cache/events${query}`, signal))
        this.#add(event);
    } catch (error) {
      if (!signal.aborted) setText(this.#note, error instanceof ApiError ? error.message : 'No connection');
    }
    if (signal.aborted) return;
    const again = setTimeout(() => this.#follow(), RETRY_MS);
    signal.addEventListener('abort', () => clearTimeout(again));
  }

  #add({ id, data: event }: StreamEvent<CacheEvent>): void {
    this.#last = id ?? this.#last;
    const at = event.ts === undefined ? '' : `${new Date(event.ts * 1000).toLocaleTimeString()}  `;
    this.#lines.prepend(html('li', {}, `${at}${textOf(event)}`));
    while (this.#lines.childElementCount > LINES_MAX) this.#lines.lastElementChild?.remove();
  }
}
