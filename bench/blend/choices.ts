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

/** The deeper checks of gradual filtering take prefills of their own here, hence fewer questions. */
export const CHOICES: readonly Choice[] = [
  { name: 'random', way: ALONE, selector: SELECTORS.random(), ratios: [MAIN_RATIO] },
  { name: 'hkvd, one check', way: ALONE, selector: SELECTORS.hkvd(), ratios: RATIOS },
  {
    name: 'hkvd, gradual',
    way: ALONE,
    selector: SELECTORS.hkvd({ checkLayers: [1, 5, 10] }),
    ratios: [MAIN_RATIO],
    questions: 20,
  },
  { name: 'heads', way: ALONE, selector: SELECTORS.heads(), ratios: [MAIN_RATIO] },
  { name: 'question', way: ALONE, selector: SELECTORS.question(), ratios: [MAIN_RATIO] },
  { name: 'none', way: CONTEXT, selector: SELECTORS.none(), ratios: [0] },
  { name: 'random', way: CONTEXT, selector: SELECTORS.random(), ratios: [MAIN_RATIO] },
  { name: 'hkvd, one check', way: CONTEXT, selector: SELECTORS.hkvd(), ratios: [MAIN_RATIO] },
  { name: 'question', way: CONTEXT, selector: SELECTORS.question(), ratios: RATIOS },
  { name: 'hybrid', way: CONTEXT, selector: SELECTORS.hybrid(), ratios: RATIOS },
];

/** On raw prompts, at the main ratio. */
export const RAW_CHOICES: readonly Choice[] = CHOICES.filter(
  ({ name, way }) => name === 'hybrid' || (name === 'hkvd, one check' && way === ALONE),
).map((choice) => ({ ...choice, ratios: [MAIN_RATIO] }));
export const RAW_QUESTIONS = 12;

export const labelOf = ({ name, way }: Pick<Choice, 'name' | 'way'>): string => `${name}, ${way}`;

/** Whose answers are compared with the gold ones, beside those of full prefill. */
export const ANSWERED: ReadonlySet<string> = new Set([`hkvd, one check, ${ALONE}`, `hybrid, ${CONTEXT}`]);
