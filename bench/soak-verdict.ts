/** What a soak must show, judged from its samples. Pure. */
import { formatBytes } from '../src/config/bytes.js';
import { median } from './statistics.js';
import { digits } from './table.js';

/** The state of one second. */
export interface SoakSample {
  /** Since the start. */
  readonly seconds: number;
  /** Bytes and budgets, by what they are of: the tiers, and the disk tier's directory. */
  readonly budgets: Readonly<Record<string, { readonly bytes: number; readonly capacityBytes: number }>>;
  readonly rssBytes: number;
  /** Counted since the start, `cachedTokens` by tier. */
  readonly promptTokens: number;
  readonly cachedTokens: Readonly<Record<string, number>>;
}

/** A moment when nothing is asked and nothing runs. */
export interface SoakPause {
  readonly seconds: number;
  readonly activeRuns: number;
  readonly leases: number;
  /** Of the main thread, after a full collection. */
  readonly heapBytes: number;
}

export interface SoakRecord {
  readonly seconds: number;
  readonly samples: readonly SoakSample[];
  readonly pauses: readonly SoakPause[];
  readonly answers: number;
  readonly aborted: number;
  /** Answers asked again where nothing was cached, and how many of these differed. */
  readonly compared: number;
  readonly wrong: number;
}

export interface SoakTolerance {
  /** Most growth of the resident set, as a share of what it was and beyond that in bytes. */
  readonly rssShare: number;
  readonly rssBytes: number;
  /** Most that the hit rate may fall, relative. */
  readonly hitRateFall: number;
}

/**
 * Of a soak of minutes. Between two collections the heaps of three threads breathe by some MiB, and the arena of ONNX
 * Runtime and the allocator keep what they once had; a leak of 1 KiB a request would be 25 MiB in ten minutes. Hit
 * rates of thousands of random prompts differ by a few percent.
 */
export const SOAK_TOLERANCE: SoakTolerance = { rssShare: 0.05, rssBytes: 8 * 1024 ** 2, hitRateFall: 0.1 };

/** Of a soak of seconds, in which heaps still grow to their size and each part of the time has few prompts. */
export const SHORT_SOAK_TOLERANCE: SoakTolerance = {
  rssShare: 0.25,
  rssBytes: 32 * 1024 ** 2,
  hitRateFall: 0.7,
};

export interface Verdict {
  readonly what: string;
  readonly holds: boolean;
  readonly detail: string;
}

/** Tiers fill and heaps find their size in this share of the time, which is judged by its budgets only. */
const WARM_UP_SHARE = 0.2;

const percent = (share: number): string => `${digits(share * 100)} %`;

function within({ samples, seconds }: SoakRecord, from: number, to: number): readonly SoakSample[] {
  return samples.filter((sample) => sample.seconds >= from * seconds && sample.seconds <= to * seconds);
}

const cachedOf = ({ cachedTokens }: SoakSample): number =>
  Object.values(cachedTokens).reduce((sum, tokens) => sum + tokens, 0);

/** Share of prompt tokens that were cached in a part of the time, `from` and `to` being shares of it. */
export function hitRate(record: SoakRecord, from: number, to: number): number {
  const samples = within(record, from, to);
  const [first, last] = [samples.at(0), samples.at(-1)];
  if (first === undefined || last === undefined || last.promptTokens === first.promptTokens)
    return Number.NaN;
  return (cachedOf(last) - cachedOf(first)) / (last.promptTokens - first.promptTokens);
}

function budgetVerdicts({ samples }: SoakRecord): Verdict[] {
  const names = new Set(samples.flatMap(({ budgets }) => Object.keys(budgets)));
  return [...names].map((name) => {
    const readings = samples.map(({ budgets }) => budgets[name]).filter((reading) => reading !== undefined);
    const most = Math.max(...readings.map(({ bytes }) => bytes));
    const budget = readings[0]!.capacityBytes;
    const over = readings.filter(({ bytes, capacityBytes }) => bytes > capacityBytes).length;
    const detail = `at most ${formatBytes(most)} of ${formatBytes(budget)}, over in ${over} of ${readings.length} samples`;
    return { what: `budget of ${name}`, holds: over === 0 && readings.length > 0, detail };
  });
}

function leaseVerdict({ pauses }: SoakRecord): Verdict {
  const leases = pauses.reduce((sum, pause) => sum + pause.leases, 0);
  const runs = pauses.reduce((sum, pause) => sum + pause.activeRuns, 0);
  const detail = `${leases} leases and ${runs} active runs left in ${pauses.length} pauses`;
  return { what: 'no leaked lease', holds: leases === 0 && runs === 0 && pauses.length > 0, detail };
}

function growth(what: string, before: number, after: number, tolerance: SoakTolerance): Verdict {
  const most = before * (1 + tolerance.rssShare) + tolerance.rssBytes;
  const allowed = `allowed ${percent(tolerance.rssShare)} and ${formatBytes(tolerance.rssBytes)} more`;
  const detail = `${formatBytes(before)} after the warm-up, ${formatBytes(after)} at the end; ${allowed}`;
  return { what, holds: after <= most, detail };
}

function memoryVerdicts(record: SoakRecord, tolerance: SoakTolerance): Verdict[] {
  const rss = (from: number, to: number): number =>
    median(within(record, from, to).map(({ rssBytes }) => rssBytes));
  const settled = record.pauses.filter(({ seconds }) => seconds >= WARM_UP_SHARE * record.seconds);
  return [
    growth('resident memory', rss(WARM_UP_SHARE, 2 * WARM_UP_SHARE), rss(1 - WARM_UP_SHARE, 1), tolerance),
    growth('collected heap', settled[0]!.heapBytes, settled.at(-1)!.heapBytes, tolerance),
  ];
}

function hitRateVerdict(record: SoakRecord, { hitRateFall }: SoakTolerance): Verdict {
  const middle = (1 + WARM_UP_SHARE) / 2;
  const before = hitRate(record, WARM_UP_SHARE, middle);
  const after = hitRate(record, middle, 1);
  const detail = `${percent(before)} in the first half after the warm-up, ${percent(after)} in the second; may fall by ${percent(hitRateFall)} of it`;
  return { what: 'steady hit rate', holds: after > 0 && after >= before * (1 - hitRateFall), detail };
}

/** Without hits in every tier the run would prove nothing of it. */
function useVerdict({ samples }: SoakRecord): Verdict {
  const hits = Object.entries(samples.at(-1)!.cachedTokens);
  const detail = hits.map(([tier, tokens]) => `${tier} ${digits(tokens)}`).join(', ');
  return {
    what: 'hits in every tier',
    holds: hits.every(([, tokens]) => tokens > 0),
    detail: `tokens: ${detail}`,
  };
}

/** Every verdict; the soak is passed when all hold. Needs samples and pauses in every fifth of the time. */
export function judge(record: SoakRecord, tolerance: SoakTolerance): Verdict[] {
  const { answers, aborted, compared, wrong } = record;
  const detail = `${wrong} of ${compared} compared; ${answers} answers, ${aborted} aborted`;
  return [
    ...budgetVerdicts(record),
    leaseVerdict(record),
    ...memoryVerdicts(record, tolerance),
    hitRateVerdict(record, tolerance),
    useVerdict(record),
    { what: 'no wrong answer', holds: wrong === 0 && compared > 0, detail },
  ];
}

/** Markdown. */
export function verdictTable(verdicts: readonly Verdict[]): string {
  const rows = verdicts.map(
    ({ what, holds, detail }) => `| ${what} | ${holds ? 'holds' : 'FAILS'} | ${detail} |`,
  );
  return ['| | | |', '| --- | --- | --- |', ...rows].join('\n');
}
