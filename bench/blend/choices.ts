/** What the benchmark of blending compares. */
import { SELECTORS, type Selector } from '#blend';

/** How the passages were prefilled: alone, as papers do, or behind a context, as radixkv does. */
export const WAYS = ['alone', 'behind a context'] as const;
export type Way = (typeof WAYS)[number];

export interface Choice {
  readonly name: string;
  readonly way: Way;
  readonly selector: Selector;
  readonly ratios: readonly number[];
  /** Measured on this many of the first questions; default: on all. */
  readonly questions?: number;
}

export const RATIOS = [0.05, 0.15, 0.3];
/** The ratio of what is compared at one ratio only. */
export const MAIN_RATIO = 0.15;

const [ALONE, CONTEXT] = WAYS;

const HKVD: Choice = { name: 'hkvd, one check', way: ALONE, selector: SELECTORS.hkvd(), ratios: RATIOS };
const HYBRID: Choice = { name: 'hybrid', way: CONTEXT, selector: SELECTORS.hybrid(), ratios: RATIOS };

/** What is compared beside, on the first questions only: the deeper checks of `hkvd` take prefills of their own here. */
const FEW_QUESTIONS = 12;
const BESIDE: readonly Choice[] = [
  { name: 'random', way: ALONE, selector: SELECTORS.random(), ratios: RATIOS },
  { name: 'heads', way: ALONE, selector: SELECTORS.heads(), ratios: RATIOS },
  {
    name: 'hkvd, gradual',
    way: ALONE,
    selector: SELECTORS.hkvd({ checkLayers: [1, 5, 10] }),
    ratios: RATIOS,
  },
  { name: 'question', way: ALONE, selector: SELECTORS.question(), ratios: RATIOS },
  { ...HYBRID, way: ALONE, ratios: [MAIN_RATIO] },
  { name: 'random', way: CONTEXT, selector: SELECTORS.random(), ratios: [MAIN_RATIO] },
  { ...HKVD, way: CONTEXT, ratios: [MAIN_RATIO] },
  { name: 'question', way: CONTEXT, selector: SELECTORS.question(), ratios: RATIOS },
];

export const CHOICES: readonly Choice[] = [
  HYBRID,
  HKVD,
  { name: 'none', way: CONTEXT, selector: SELECTORS.none(), ratios: [0] },
  ...BESIDE.map((choice) => ({ ...choice, questions: FEW_QUESTIONS })),
];

/** On raw prompts. */
export const RAW_CHOICES: readonly Choice[] = [HYBRID, HKVD].map((choice) => ({
  ...choice,
  ratios: [MAIN_RATIO],
}));
export const RAW_QUESTIONS = FEW_QUESTIONS;

export const labelOf = ({ name, way }: Pick<Choice, 'name' | 'way'>): string => `${name}, ${way}`;

/** Whose answers are compared with the gold ones, beside those of full prefill. */
export const ANSWERED: ReadonlySet<string> = new Set([`hkvd, one check, ${ALONE}`, `hybrid, ${CONTEXT}`]);
