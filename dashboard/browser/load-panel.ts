/** What the tiers hold of their budgets, and what the server does: throughput, queue, outcomes. */
import { bytes, count, percent, rate, seconds } from '../numbers.js';
import {
  type Counts,
  type Evicted,
  freshRates,
  meanOf,
  type ProcessStats,
  TIERS,
  type WindowStats,
} from '../readings.js';
import { byId, html, row, svg } from './elements.js';
import { showTiles } from './hit-panel.js';

const OUTCOMES = ['completed', 'aborted', 'failed', 'refused'] as const;

function bar(tier: string, share: number): SVGElement {
  const box = { x: 0, y: 0, height: 8 };
  const frame = { class: 'bar', viewBox: '0 0 100 8', preserveAspectRatio: 'none', 'aria-hidden': 'true' };
  return svg(
    'svg',
    frame,
    svg('rect', { ...box, width: 100, class: 'fill-computed' }),
    svg('rect', { ...box, width: 100 * Math.min(1, share), class: `fill-${tier}` }),
  );
}

export function showTiers({ by_tier: byTier }: ProcessStats): void {
  const rows = TIERS.map((tier) => {
    const { bytes: used, capacity_bytes: budget } = byTier[tier];
    if (used === null || !budget) return row(tier, bytes(used), 'off', percent(null));
    const line = row(tier, bytes(used), bytes(budget));
    line.append(html('td', {}, percent(used / budget), bar(tier, used / budget)));
    return line;
  });
  byId('tier-rows', HTMLElement).replaceChildren(...rows);
}

/** Of half of all, and of nine of ten. */
function two(values: Evicted['uses'] | undefined, text: typeof count): string {
  return values === undefined || values.p50 === null
    ? text(null)
    : `${text(values.p50)}, ${text(values.p90)}`;
}

/** What became of evicted chunks. */
export function showLives({ by_tier: byTier }: ProcessStats, { by_tier: inWindow }: Counts): void {
  const rows = TIERS.map((tier) => {
    const { evicted, regret_tokens: regret } = byTier[tier];
    return row(
      tier,
      count(evicted?.chunks),
      two(evicted?.age_seconds, seconds),
      two(evicted?.uses, count),
      count(inWindow[tier].regret_tokens),
      count(regret),
    );
  });
  byId('life-rows', HTMLElement).replaceChildren(...rows);
}

/** Of the last minute, at `nowMs` by the server's clock. */
export function showThroughput(minute: WindowStats, nowMs: number): void {
  const rates = freshRates(minute, nowMs);
  showTiles(byId('rate-tiles', HTMLElement), {
    'answer tokens/s': rate(rates.completionTokensPerS),
    'prompt tokens/s': rate(rates.promptTokensPerS),
    'requests/s': rate(rates.requestsPerS),
  });
}

export function showQueue(samples: ReadonlyMap<string, number>): void {
  showTiles(byId('queue-tiles', HTMLElement), {
    running: count(samples.get('radixkv_active_sequences')),
    waiting: count(samples.get('radixkv_queued_requests')),
    'TTFT, mean since the start': seconds(meanOf(samples, 'radixkv_ttft_seconds')),
    'of it in the queue': seconds(meanOf(samples, 'radixkv_queue_seconds')),
  });
}

export function showOutcomes(inWindow: Counts, sinceStart: Counts): void {
  const rows = OUTCOMES.map((outcome) =>
    row(outcome, count(inWindow.requests[outcome]), count(sinceStart.requests[outcome])),
  );
  byId('outcome-rows', HTMLElement).replaceChildren(...rows);
}
