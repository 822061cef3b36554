/**
 * A profile as a picture: divergence against recompute ratio, a line for each selector, as SVG that reads on light and
 * dark ground. Pure.
 */
import type { BlendProfile, ProfileRow } from './profile.js';

const WIDTH = 720;
const HEIGHT = 440;
const LEFT = 70;
const RIGHT = 110;
const TOP = 48;
const BOTTOM = 58;
/** Of middle lightness; each line has its own dashes too. */
const COLOURS = ['#3b82f6', '#d97706', '#16a34a', '#db2777', '#8b5cf6', '#0891b2'];
const DASHES = ['none', '7 4', '2 4', '10 3 2 3', '4 2', '1 3'];
const LABEL_LINE = 15;
const TICKS = 5;

/** @param klMax drawn as a line, where it is within the picture */
export function profilePlot(profile: BlendProfile, klMax: number): string {
  const { rows, reuseKl, questions, promptTokens } = profile;
  const selectors = [...new Set(rows.map(({ selector }) => selector))];
  const ratioMax = Math.max(...rows.map(({ ratio }) => ratio));
  const step = niceStep(Math.max(reuseKl, ...rows.map(({ klUpper }) => klUpper)) / TICKS);
  const klTop = step * TICKS;
  const x = (ratio: number) => LEFT + (ratio / ratioMax) * (WIDTH - LEFT - RIGHT);
  const y = (kl: number) => HEIGHT - BOTTOM - (Math.max(0, kl) / klTop) * (HEIGHT - TOP - BOTTOM);
  const lines = selectors.map((selector) =>
    rows.filter((row) => row.selector === selector).sort((a, b) => a.ratio - b.ratio),
  );
  const labels = apart(lines.map((line) => y(line.at(-1)!.kl)));
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" font-family="system-ui, sans-serif" font-size="13">`,
    `<title>Divergence of blended from full prefill by recompute ratio</title>`,
    '<style>text{fill:#1f2328}.axis{stroke:#8c959f}.grid{stroke:#8c959f;opacity:.3}',
    '@media(prefers-color-scheme:dark){text{fill:#e6edf3}}</style>',
    text(
      LEFT,
      24,
      'start',
      `Blending against full prefill, questions: ${questions}, prompt tokens: ${promptTokens}`,
    ),
    ...Array.from({ length: TICKS + 1 }, (_, i) => klTick(y(i * step), i * step)),
    ...[0, ...lines[0]!.map(({ ratio }) => ratio)].map((ratio) => ratioTick(x(ratio), ratio)),
    text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 14, 'middle', 'recompute ratio'),
    `<g transform="translate(18 ${(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)">${text(0, 0, 'middle', 'KL divergence, nats a token (bar: 95 %)')}</g>`,
    ...(klMax < klTop ? [boundLine(y(klMax))] : []),
    ...lines.map((line, i) => series(line, { x, y, reuseKl, labelY: labels[i]!, index: i })),
    '</svg>\n',
  ].join('\n');
}

function series(
  rows: readonly ProfileRow[],
  place: {
    readonly x: (ratio: number) => number;
    readonly y: (kl: number) => number;
    readonly reuseKl: number;
    readonly labelY: number;
    readonly index: number;
  },
): string {
  const { x, y, reuseKl, labelY, index } = place;
  const colour = COLOURS[index % COLOURS.length]!;
  const points = [{ ratio: 0, kl: reuseKl }, ...rows].map(({ ratio, kl }) => `${at(x(ratio))},${at(y(kl))}`);
  const marks = rows.map(
    ({ ratio, kl, klUpper }) =>
      `<circle cx="${at(x(ratio))}" cy="${at(y(kl))}" r="3.5" fill="${colour}"/>` +
      `<line x1="${at(x(ratio))}" x2="${at(x(ratio))}" y1="${at(y(kl))}" y2="${at(y(klUpper))}" stroke="${colour}"/>`,
  );
  return [
    `<polyline points="${points.join(' ')}" fill="none" stroke="${colour}" stroke-width="2" stroke-dasharray="${DASHES[index % DASHES.length]}"/>`,
    ...marks,
    `<text x="${WIDTH - RIGHT + 12}" y="${at(labelY + 4)}" style="fill:${colour}">${rows[0]!.selector}</text>`,
  ].join('\n');
}

function klTick(y: number, kl: number): string {
  const grid = `<line class="grid" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at(y)}" y2="${at(y)}"/>`;
  return grid + text(LEFT - 8, y + 4, 'end', String(Number(kl.toPrecision(3))));
}

function ratioTick(x: number, ratio: number): string {
  const foot = HEIGHT - BOTTOM;
  const mark = `<line class="axis" x1="${at(x)}" x2="${at(x)}" y1="${foot}" y2="${foot + 5}"/>`;
  return mark + text(x, foot + 20, 'middle', String(ratio));
}

function boundLine(y: number): string {
  const line = `<line class="axis" stroke-dasharray="3 3" x1="${LEFT}" x2="${WIDTH - RIGHT}" y1="${at(y)}" y2="${at(y)}"/>`;
  return line + text(LEFT + 6, y - 5, 'start', '--blend-kl-max');
}

function text(x: number, y: number, anchor: 'start' | 'middle' | 'end', content: string): string {
  return `<text x="${at(x)}" y="${at(y)}" text-anchor="${anchor}">${content}</text>`;
}

/** 1, 2 or 5 times a power of ten, at least `step`. */
function niceStep(step: number): number {
  const power = 10 ** Math.floor(Math.log10(step));
  return power * [1, 2, 5, 10].find((factor) => factor * power >= step * (1 - 1e-9))!;
}

/** Heights of labels near their lines, none on another: the lower ones keep their place, the others give way upwards. */
function apart(heights: readonly number[]): number[] {
  const order = heights.map((_, i) => i).sort((a, b) => heights[b]! - heights[a]!);
  const placed = [...heights];
  for (const [rank, i] of order.entries()) {
    if (rank > 0) placed[i] = Math.min(placed[i]!, placed[order[rank - 1]!]! - LABEL_LINE);
  }
  return placed;
}

const at = (value: number): string => value.toFixed(1);
