/**
 * Runs cases on subjects in alternating rounds (A, B, A, B, …) and reduces them to rows of medians and ratios.
 *
 * Subjects run in turn, never at once, so that each has all cores; `pause` lets the threads of the one before go to
 * sleep. The first round of each case is a warm-up and is dropped. Knows no engine and no files.
 */
import { pairedRatio, type Spread, spread } from './statistics.js';
import type { Subject } from './subject.js';

/** What the first subject must reach against the second. */
export type Target = { readonly atLeast: number } | { readonly atMost: number };

export interface BenchCase {
  readonly name: string;
  /** `speed`: the ratio is peer time / our time, more is better. `time`: our time / peer time, less is better. */
  readonly ratio: 'speed' | 'time';
  /** Tokens that one measured time stands for, to show tokens per second; absent where only time matters. */
  readonly tokens?: number;
  readonly target?: Target;
  /** Name of an earlier case of which this one's time is shown as a share, and the most it may be. */
  readonly shareOf?: { readonly name: string; readonly atMost: number };
  /** False leaves the subject out of this case. */
  applies(subject: Subject): boolean;
  /** One round: times in milliseconds, reduced to their median. */
  measure(subject: Subject, round: number): Promise<readonly number[]>;
}

export interface BenchRow {
  readonly name: string;
  readonly tokens?: number;
  /** Milliseconds by subject, over the rounds. */
  readonly ms: Readonly<Record<string, Spread>>;
  readonly ratioOf: 'speed' | 'time';
  /** First subject against the second, round by round; absent when only one of them ran. */
  readonly ratio?: Spread;
  readonly target?: Target;
  /** Share of the time of another row, of the first subject that ran. */
  readonly share?: { readonly of: string; readonly value: number; readonly atMost: number };
}

export interface BenchOptions {
  readonly rounds: number;
  /** Called between two measurements. */
  readonly pause: () => Promise<void>;
  readonly onRow?: (row: BenchRow) => void;
}

/** Measures every case on every subject it applies to; the first subject is ours, the second the peer. */
export async function runCases(
  cases: readonly BenchCase[],
  subjects: readonly Subject[],
  { rounds, pause, onRow }: BenchOptions,
): Promise<BenchRow[]> {
  const rows: BenchRow[] = [];
  for (const benchCase of cases) {
    const taking = subjects.filter((subject) => benchCase.applies(subject));
    if (taking.length === 0) continue;
    const times = new Map<Subject, number[]>(taking.map((subject) => [subject, []]));
    for (let round = 0; round <= rounds; round++) {
      for (const [subject, values] of times) {
        await pause();
        const { median } = spread(await benchCase.measure(subject, round));
        if (round > 0) values.push(median);
      }
    }
    const row = toRow(benchCase, times, subjects, rows);
    rows.push(row);
    onRow?.(row);
  }
  return rows;
}

function toRow(
  { name, tokens, ratio: ratioOf, target, shareOf }: BenchCase,
  times: ReadonlyMap<Subject, readonly number[]>,
  subjects: readonly Subject[],
  earlier: readonly BenchRow[],
): BenchRow {
  const ms = Object.fromEntries([...times].map(([subject, values]) => [subject.name, spread(values)]));
  const [ours, peer] = subjects.map((subject) => times.get(subject));
  const ratio = ours && peer && (ratioOf === 'speed' ? pairedRatio(peer, ours) : pairedRatio(ours, peer));
  const first = [...times.keys()][0]!.name;
  const whole = earlier.find((row) => row.name === shareOf?.name)?.ms[first];
  return {
    name,
    ms,
    ratioOf,
    ...(tokens !== undefined && { tokens }),
    ...(ratio && { ratio }),
    ...(target && { target }),
    ...(shareOf &&
      whole && {
        share: { of: shareOf.name, value: ms[first]!.median / whole.median, atMost: shareOf.atMost },
      }),
  };
}
