/**
 * The requests that ended last, each a line with its phases on a common scale. Opening one asks for why its prompt
 * missed. A line that is there already stays as it is, so that nobody loses the focus or what was opened.
 */
import { count, milliseconds } from '../numbers.js';
import { REQUESTS_MAX } from '../pace.js';
import type { Api } from './api.js';
import { byId, html, setText, svg } from './elements.js';
import { type Miss, missSentence, missSides } from './miss-view.js';

interface Span {
  readonly phase: string;
  readonly start_ms: number;
  readonly duration_ms: number;
}

/** Of `GET /v1/requests`. */
interface Recent {
  readonly id: string;
  readonly request_id: string;
  readonly created_at: number;
  readonly endpoint: string;
  readonly tenant: string;
  readonly outcome: string;
  readonly error: string | null;
  readonly prompt_tokens: number;
  readonly cached_tokens: number;
  readonly blended_tokens: number;
  readonly completion_tokens: number;
  readonly duration_ms: number;
  readonly ttft_ms: number | null;
  readonly spans: readonly Span[];
}

/** Of `GET /v1/requests/{id}`. */
interface Explained extends Recent {
  readonly miss:
    | (Miss & {
        readonly common_text: string | null;
        readonly prompt_text: string | null;
        readonly cached_text: string | null;
      })
    | null;
}

const FILLS: Readonly<Record<string, string>> = {
  queue: 'computed',
  load: 'disk',
  prefill: 'host',
  blend: 'blend',
  decode: 'device',
  paused: 'none',
};

/** Parts of other phases are drawn over them, lower. */
const PARTS = new Set(['load', 'blend', 'paused']);
const HEIGHT = 14;

const phasesOf = (spans: readonly Span[]): string =>
  spans.length === 0
    ? 'not computed'
    : spans.map(({ phase, duration_ms: ms }) => `${phase} ${milliseconds(ms)}`).join(', ');

function waterfall({ spans }: Recent, scaleMs: number): SVGElement {
  const bars = spans.map(({ phase, start_ms: start, duration_ms: ms }) => {
    const isPart = PARTS.has(phase);
    return svg('rect', {
      x: (1000 * start) / scaleMs,
      width: Math.max(1, (1000 * ms) / scaleMs),
      y: isPart ? HEIGHT / 2 : 0,
      height: isPart ? HEIGHT / 2 : HEIGHT,
      class: `fill-${FILLS[phase] ?? 'none'}`,
    });
  });
  const frame = { viewBox: `0 0 1000 ${HEIGHT}`, preserveAspectRatio: 'none', 'aria-hidden': 'true' };
  return svg('svg', { ...frame, class: 'spans' }, ...bars);
}

function summaryOf(request: Recent): string {
  const { outcome, error, ttft_ms: ttft } = request;
  const reused = request.cached_tokens + request.blended_tokens;
  const prompt = `${count(reused)} of ${count(request.prompt_tokens)} reused`;
  return outcome === 'completed' ? `${prompt}, TTFT ${milliseconds(ttft)}` : `${outcome} ${error ?? ''}`;
}

export class RecentPanel {
  readonly #api: Api;
  readonly #list = byId('recent', HTMLElement);
  readonly #note = byId('recent-note', HTMLElement);
  #scaleMs = 0;

  constructor(api: Api) {
    this.#api = api;
  }

  async load(signal: AbortSignal): Promise<void> {
    const { data } = await this.#api.json<{ data: readonly Recent[] }>(`v1/requests?limit=${REQUESTS_MAX}`, {
      signal,
    });
    setText(this.#note, data.length === 0 ? 'No request has ended, or none is kept.' : '');
    const scaleMs = Math.max(1, ...data.map(({ duration_ms: ms }) => ms));
    const standing = new Map([...this.#list.children].map((line) => [line.getAttribute('data-id'), line]));
    const isNewScale = scaleMs !== this.#scaleMs;
    this.#scaleMs = scaleMs;
    let after: Element | undefined;
    for (const request of data) {
      const found = standing.get(request.id);
      standing.delete(request.id);
      const line = found ?? this.#line(request);
      if (found !== undefined && isNewScale)
        line.querySelector('.spans')?.replaceWith(waterfall(request, scaleMs));
      const next: Element | null =
        after === undefined ? this.#list.firstElementChild : after.nextElementSibling;
      if (next !== line) this.#list.insertBefore(line, next);
      after = line;
    }
    for (const gone of standing.values()) if (!gone.contains(document.activeElement)) gone.remove();
  }

  #line(request: Recent): HTMLLIElement {
    const started = new Date(request.created_at * 1000);
    const body = html('div', { 'aria-live': 'polite' });
    const details = html(
      'details',
      {},
      html(
        'summary',
        {},
        html('span', {}, started.toLocaleTimeString()),
        html('span', {}, summaryOf(request)),
        waterfall(request, this.#scaleMs),
      ),
      body,
    );
    details.addEventListener('toggle', () => {
      if (details.open && body.childElementCount === 0) void this.#explain(request, body);
    });
    return html('li', { 'data-id': request.id }, details);
  }

  async #explain({ id }: Recent, body: HTMLElement): Promise<void> {
    try {
      const request = await this.#api.json<Explained>(`v1/requests/${encodeURIComponent(id)}`);
      const { miss, tenant, endpoint, completion_tokens: answer } = request;
      const what = `${tenant}, ${endpoint}, ${request.request_id}: ${count(answer)} tokens of answer in ${milliseconds(request.duration_ms)}.`;
      body.replaceChildren(
        html('p', {}, what),
        html('p', {}, `Phases: ${phasesOf(request.spans)}.`),
        html('p', {}, miss === null ? 'Nothing was missed, or nothing looked for.' : missSentence(miss)),
      );
      if (miss?.prompt_text != null)
        body.append(missSides(miss.common_text ?? '', miss.prompt_text, miss.cached_text ?? ''));
    } catch (error) {
      body.replaceChildren(
        html('p', { class: 'bad' }, error instanceof Error ? error.message : String(error)),
      );
    }
  }
}
