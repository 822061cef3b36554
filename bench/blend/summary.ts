/** Questions → rows of a table: means and medians over them, with bootstrap intervals. Pure. */
import { recoveredShare } from '../../src/calibration/measure.js';
import { mean } from '../../src/calibration/scores.js';
import { bootstrap, median } from '../statistics.js';
import type { AnswerRow, ChoiceRow, QuestionMeasures, TimeRow } from './question.js';

/** 5th and 95th percentile. */
type Interval = readonly [number, number];

export interface RecoveryRow {
  readonly label: string;
  readonly ratio: number;
  readonly questions: number;
  readonly recovered: number;
  readonly interval: Interval;
  readonly kl: number;
  readonly sameBest: number;
}

export interface AnswerSummary {
  readonly label: string;
  readonly logLikelihood: number;
  readonly logLikelihoodInterval: Interval;
  readonly f1: number;
  readonly f1Interval: Interval;
}

/** Medians in milliseconds. */
export interface TimeSummary {
  readonly ratio: number;
  readonly questions: number;
  readonly fullMs: number;
  readonly blendMs: number;
  /** Full ÷ blend of each question. */
  readonly speedUp: number;
  readonly place: number;
  readonly rotate: number;
  readonly select: number;
  readonly recompute: number;
}

export interface BlendSummary {
  readonly questions: number;
  readonly promptTokens: number;
  readonly reuseKl: number;
  readonly recovery: readonly RecoveryRow[];
  readonly answers: readonly AnswerSummary[];
  readonly times: readonly TimeSummary[];
}

export function summarise(measured: readonly QuestionMeasures[]): BlendSummary {
  const rows = measured.flatMap((question) => question.rows);
  const answers = measured.flatMap((question) => question.answers);
  const times = measured.flatMap((question) => question.times);
  return {
    questions: measured.length,
    promptTokens: median(measured.map(({ promptTokens }) => promptTokens)),
    reuseKl: mean(measured.map((question) => question.rows[0]!.reuseKl)),
    recovery: grouped(rows, ({ label, ratio }) => `${label} ${ratio}`).map(recoveryOf),
    answers: grouped(answers, ({ label }) => label).map(answersOf),
    times: grouped(times, ({ ratio }) => String(ratio)).map(timesOf),
  };
}

function recoveryOf(rows: readonly ChoiceRow[]): RecoveryRow {
  const { label, ratio } = rows[0]!;
  return {
    label,
    ratio,
    questions: rows.length,
    recovered: recoveredShare(rows),
    interval: bootstrap(rows, recoveredShare),
    kl: mean(rows.map(({ kl }) => kl)),
    sameBest: mean(rows.map(({ sameBest }) => sameBest)),
  };
}

function answersOf(rows: readonly AnswerRow[]): AnswerSummary {
  return {
    label: rows[0]!.label,
    logLikelihood: meanLikelihood(rows),
    logLikelihoodInterval: bootstrap(rows, meanLikelihood),
    f1: meanF1(rows),
    f1Interval: bootstrap(rows, meanF1),
  };
}

function timesOf(rows: readonly TimeRow[]): TimeSummary {
  const part = (of: (row: TimeRow) => number) => median(rows.map(of));
  return {
    ratio: rows[0]!.ratio,
    questions: rows.length,
    fullMs: part(({ fullMs }) => fullMs),
    blendMs: part(blendMs),
    speedUp: part((row) => row.fullMs / blendMs(row)),
    place: part(({ place }) => place),
    rotate: part(({ rotate }) => rotate),
    select: part(({ select }) => select),
    recompute: part(({ recompute }) => recompute),
  };
}

const meanLikelihood = (rows: readonly AnswerRow[]) => mean(rows.map(({ logLikelihood }) => logLikelihood));
const meanF1 = (rows: readonly AnswerRow[]) => mean(rows.map(({ f1 }) => f1));
const blendMs = ({ place, rotate, select, recompute }: TimeRow) => place + rotate + select + recompute;

/** Rows of one key together, in the order of their first ones. */
function grouped<Row>(rows: readonly Row[], keyOf: (row: Row) => string): Row[][] {
  const groups = new Map<string, Row[]>();
  for (const row of rows) {
    const key = keyOf(row);
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()];
}
