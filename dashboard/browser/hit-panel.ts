/** The hit rate by tier over a window: tiles, stacked bars, and the same as a table for those who can't see them. */
import { count, percent, seconds } from '../numbers.js';
import { type Counts, type HistoryStats, reusedTokens, TIERS } from '../readings.js';
import { byId, html, row, setText, svg } from './elements.js';

export interface Window {
  /** For the API. */
  readonly name: string;
  readonly seconds: number;
  readonly step: string;
}

/** As the page offers them; the first one is chosen at first. */
export const WINDOWS: readonly [Window, ...Window[]] = [
  { name: '5m', seconds: 300, step: '10s' },
  { name: '1h', seconds: 3600, step: '1m' },
  { name: '24h', seconds: 86_400, step: '30m' },
];

type Point = HistoryStats['points'][number];

/** Of a chart, in pixels; below are the times. */
export const LEFT = 48;
export const TOP = 8;
export const HEIGHT = 160;
export const BELOW = 30;

const sources = [...TIERS, 'computed'] as const;

function tokensFrom(counts: Counts, source: (typeof sources)[number]): number {
  return source === 'computed' ? counts.computed_tokens : reusedTokens(counts, source);
}

/** Tiles of numbers with their names. */
export function showTiles(list: HTMLElement, tiles: Readonly<Record<string, string>>): void {
  const entries = Object.entries(tiles);
  if (list.childElementCount !== entries.length)
    list.replaceChildren(...entries.map(([name]) => html('div', {}, html('dt', {}, name), html('dd'))));
  for (const [i, [, text]] of entries.entries()) setText(list.children[i]!.lastElementChild!, text);
}

/** The steps of a window, the last one at the right edge. Where data began within it, the left stays empty. */
export interface Steps {
  readonly points: readonly Point[];
  readonly stepSeconds: number;
  readonly windowSeconds: number;
  /** Of all bars, in pixels. */
  readonly width: number;
}

function bars({ points, stepSeconds, windowSeconds, width: all }: Steps): SVGElement[] {
  const width = (all * stepSeconds) / (windowSeconds + stepSeconds);
  return points.flatMap((point, i) => {
    if (point.prompt_tokens === 0) return [];
    let y = TOP + HEIGHT;
    return sources.map((source) => {
      const height = (HEIGHT * tokensFrom(point, source)) / point.prompt_tokens;
      y -= height;
      const x = LEFT + all - (points.length - i) * width;
      return svg('rect', { x, y, width: width - 1, height, class: `fill-${source}` });
    });
  });
}

function timeOf(ms: number): string {
  return new Date(ms).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' });
}

/** Lines across, each with what it stands for, and times below. */
export function axes(
  { points, windowSeconds, width }: Steps,
  label: (share: number) => string = (share) => `${share * 100} %`,
): SVGElement[] {
  const lines = [0, 0.5, 1].flatMap((share) => {
    const y = TOP + HEIGHT * (1 - share);
    return [
      svg('line', { x1: LEFT, x2: LEFT + width, y1: y, y2: y }),
      svg('text', { x: LEFT - 6, y: y + 4, 'text-anchor': 'end' }, label(share)),
    ];
  });
  const lastMs = Date.parse(points.at(-1)?.start ?? '');
  const times = ['start', 'middle', 'end'].map((anchor, i) => {
    const place = { x: LEFT + (i / 2) * width, y: TOP + HEIGHT + 20, 'text-anchor': anchor };
    return svg(
      'text',
      place,
      Number.isNaN(lastMs) ? '' : timeOf(lastMs - windowSeconds * 1000 * (1 - i / 2)),
    );
  });
  return [...lines, ...times];
}

function tableRow(point: Point): HTMLTableRowElement {
  const start = new Date(point.start).toLocaleString([], { dateStyle: 'short', timeStyle: 'medium' });
  return row(start, count(point.prompt_tokens), ...sources.map((source) => count(tokensFrom(point, source))));
}

function shareTiles(total: Counts): Record<string, string> {
  const share = (tokens: number) => percent(total.prompt_tokens === 0 ? null : tokens / total.prompt_tokens);
  return {
    'hit rate': percent(total.hit_rate),
    ...Object.fromEntries(TIERS.map((tier) => [tier, share(reusedTokens(total, tier))])),
    'prompt tokens': count(total.prompt_tokens),
    'prefill saved': seconds(total.saved_prefill_seconds),
  };
}

export class HitPanel {
  readonly #tiles = byId('hit-tiles', HTMLElement);
  readonly #details = byId('hit-details', HTMLDetailsElement);
  readonly #rows = byId('hit-rows', HTMLElement);
  readonly #chart = document.querySelector<SVGElement>('#hit-chart')!;
  readonly #title = document.querySelector('#hit-chart-title')!;
  #points: readonly Point[] = [];

  constructor() {
    this.#details.addEventListener('toggle', () => this.#showTable());
  }

  show(total: Counts, savedSinceStart: number | null, history: HistoryStats, window: Window): void {
    const { points, step_seconds: stepSeconds } = history;
    const width = Math.max(100, this.#chart.clientWidth - LEFT);
    const steps = { points, stepSeconds, windowSeconds: window.seconds, width };
    showTiles(this.#tiles, {
      ...shareTiles(total),
      'saved since the start': seconds(savedSinceStart),
    });
    this.#points = points;
    setText(this.#title, `Prompt tokens by where their KV came from: ${percent(total.hit_rate)} reused`);
    this.#chart.setAttribute('viewBox', `0 0 ${LEFT + width} ${TOP + HEIGHT + BELOW}`);
    this.#chart.replaceChildren(this.#title, ...axes(steps), ...bars(steps));
    this.#showTable();
  }

  /** A closed table costs nothing. */
  #showTable(): void {
    if (this.#details.open) this.#rows.replaceChildren(...this.#points.toReversed().map(tableRow));
  }
}
