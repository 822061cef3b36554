/** The time to the first token by how much of a prompt was reused: medians over a window as lines, and a table. */
import { count, milliseconds } from '../numbers.js';
import { type Counts, HITS, type HistoryStats, type Hit } from '../readings.js';
import { byId, row, setText, svg } from './elements.js';
import { axes, BELOW, HEIGHT, LEFT, TOP, type Window } from './hit-panel.js';

const NAMES: Readonly<Record<Hit, string>> = {
  none: 'nothing',
  partial: 'less than half',
  most: 'half or more',
};
const FILLS: Readonly<Record<Hit, string>> = { none: 'none', partial: 'disk', most: 'device' };
const DOT = 3;

/** A line through the medians of one kind, and a dot for each. */
function line(hit: Hit, at: readonly { readonly x: number; readonly y: number }[]): readonly SVGElement[] {
  const points = at.map(({ x, y }) => `${x},${y}`).join(' ');
  const dots = at.map(({ x, y }) => svg('circle', { cx: x, cy: y, r: DOT, class: `fill-${FILLS[hit]}` }));
  return [svg('polyline', { points, class: `line-${hit}` }), ...dots];
}

export function showFirstTokens(total: Counts, history: HistoryStats, window: Window): void {
  const chart = document.querySelector<SVGElement>('#ttft-chart')!;
  const title = document.querySelector('#ttft-chart-title')!;
  const { points, step_seconds: stepSeconds } = history;
  const all = Math.max(100, chart.clientWidth - LEFT);
  const medians = points.flatMap(({ ttft_ms: ttft }) => HITS.map((hit) => ttft[hit].p50 ?? 0));
  const highest = Math.max(1, ...medians);
  const width = (all * stepSeconds) / (window.seconds + stepSeconds);
  const lines = HITS.flatMap((hit) => {
    const at = points.flatMap(({ ttft_ms: ttft }, i) => {
      const ms = ttft[hit].p50;
      const x = LEFT + all - (points.length - i - 0.5) * width;
      return ms === null ? [] : [{ x, y: TOP + HEIGHT * (1 - ms / highest) }];
    });
    return line(hit, at);
  });
  const steps = { points, stepSeconds, windowSeconds: window.seconds, width: all };
  chart.setAttribute('viewBox', `0 0 ${LEFT + all} ${TOP + HEIGHT + BELOW}`);
  chart.replaceChildren(title, ...axes(steps, (share) => milliseconds(share * highest)), ...lines);
  setText(
    title,
    `Median time to the first token: ${HITS.map((hit) => `${NAMES[hit]} reused ${milliseconds(total.ttft_ms[hit].p50)}`).join(', ')}`,
  );
  const rows = HITS.map((hit) => {
    const { requests, p50, p95, mean } = total.ttft_ms[hit];
    return row(NAMES[hit], count(requests), milliseconds(p50), milliseconds(p95), milliseconds(mean));
  });
  byId('ttft-rows', HTMLElement).replaceChildren(...rows);
}
