/** Benchmark results as Markdown, and the README's table between its two markers. Pure. */
import type { BenchRow, Target } from './harness.js';
import type { BenchResult } from './results.js';

const START = '<!-- bench:start -->';
const END = '<!-- bench:end -->';

/** Three significant digits, no exponent. */
export function digits(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en-US') : String(Number(value.toPrecision(3)));
}

function time(ms: number, tokens: number | undefined): string {
  return tokens === undefined ? `${digits(ms)} ms` : `${digits((tokens / ms) * 1000)} tok/s`;
}

function meets(value: number, target: Target): boolean {
  return 'atLeast' in target ? value >= target.atLeast : value <= target.atMost;
}

function ratioCell({ ratio, target }: BenchRow): string {
  if (!ratio) return '–';
  const value = `${digits(ratio.median)}× (${digits(ratio.min)}–${digits(ratio.max)})`;
  return target && !meets(ratio.median, target) ? `${value}, short of the target` : value;
}

function targetCell({ target, share }: BenchRow): string {
  const parts: string[] = [];
  if (target) parts.push('atLeast' in target ? `≥ ${target.atLeast}×` : `≤ ${target.atMost}×`);
  if (share) parts.push(`≤ ${digits(share.atMost * 100)} % of ${share.of}`);
  return parts.join(', ') || '–';
}

function shareText({ share }: BenchRow): string {
  if (!share) return '';
  const short = meets(share.value, share) ? '' : ', short of the target';
  return ` (${digits(share.value * 100)} % of ${share.of}${short})`;
}

/** Rows under one header: a column for each subject in the order given, the ratio with its range, and the target. */
export function markdownTable(rows: readonly BenchRow[], subjects: readonly string[]): string {
  const lines = [
    ['', ...subjects, 'ratio (min–max of rounds)', 'target'],
    ['---', ...subjects.map(() => '---'), '---', '---'],
    ...rows.map((row) => {
      const cells = subjects.map((subject) => {
        const spread = row.ms[subject];
        return spread ? time(spread.median, row.tokens) : '–';
      });
      const first = subjects.findIndex((subject) => row.ms[subject]);
      cells[first] += shareText(row);
      return [row.name, ...cells, ratioCell(row), targetCell(row)];
    }),
  ];
  return lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}

/** The names of all subjects of some rows, in order of appearance. */
export function subjectNames(rows: readonly BenchRow[]): string[] {
  return [...new Set(rows.flatMap((row) => Object.keys(row.ms)))];
}

/**
 * The README's section for some results: the table, then what it ran on and how to repeat it.
 * @throws Error for a quick run, whose numbers are for a look only
 */
export function benchSection(results: readonly BenchResult[]): string {
  const quick = results.find((result) => result.quick);
  if (quick)
    throw new Error(`${quick.name} was measured with --quick: run \`npm run bench -- ${quick.name}\` first`);
  const compared = results.filter(({ rows }) => rows.length > 0);
  const rows = compared.flatMap((result) => result.rows);
  const machines = new Set(
    compared.map(({ machine, date }) => {
      const { cpu, cores, memoryGiB, node, onnxruntime } = machine;
      const day = date.slice(0, 10);
      return `${cpu}, ${cores} cores, ${memoryGiB} GiB, Node ${node}, ONNX Runtime ${onnxruntime}, ${day}`;
    }),
  );
  const commands = compared.map(({ command }) => `\`${command}\``).join(', ');
  return [
    markdownTable(rows, subjectNames(rows)),
    `Measured on ${[...machines].join('; ')}. Repeat with ${commands}.`,
  ].join('\n\n');
}

/**
 * The README with everything between the markers replaced.
 * @throws Error when a marker is missing or they are out of order
 */
export function replaceSection(readme: string, section: string): string {
  const start = readme.indexOf(START);
  const end = readme.indexOf(END);
  if (start < 0 || end < start) throw new Error(`README.md needs ${START} and, after it, ${END}`);
  return `${readme.slice(0, start + START.length)}\n${section}\n${readme.slice(end)}`;
}
