/**
 * Whether a request is blended, by which selector and how much is recomputed: what it asks for, against what was
 * measured on the model.
 *
 * Without a measurement `auto` computes exactly: any doubt is a miss. `blend` is the user's own word. Knows no tokens.
 */
import { DEFAULT_SELECTOR, type SelectorName, type UnmovableReason } from '#blend';
import { RadixkvError } from '../errors.js';
import type { BlendExplanation, CacheControl } from './completion.js';

/** What blending does to the answers of a model, as `radixkv model calibrate` measured it. */
export interface BlendQuality {
  /**
   * The least ratio whose divergence stays under the bound, by the selector or by the best one; undefined where none
   * does.
   */
  leastRatio(
    selector: SelectorName | undefined,
  ): { readonly selector: SelectorName; readonly ratio: number } | undefined;
}

export type BlendDecision =
  | { readonly selector: SelectorName; readonly ratio: number }
  | { readonly refused: BlendExplanation['outcome'] };

/** Recomputed where neither request nor profile says more: CacheBlend's own ratio (EuroSys 2025, §5.1). */
export const DEFAULT_RATIO = 0.15;

export class BlendPolicy {
  readonly #quality: BlendQuality | undefined;
  readonly #unmovable: UnmovableReason | undefined;

  constructor(model: {
    /** Undefined: never measured. */
    readonly quality: BlendQuality | undefined;
    /** Why its keys can't be moved. */
    readonly unmovable: UnmovableReason | undefined;
  }) {
    this.#quality = model.quality;
    this.#unmovable = model.unmovable;
  }

  /** @throws RadixkvError `invalid_value` when a request insists on blending what can't be blended. */
  decide({ mode, recomputeRatio, selector }: CacheControl): BlendDecision {
    if (mode === 'exact' || mode === 'off') return { refused: 'exact' };
    const measured = this.#quality?.leastRatio(selector);
    if (mode === 'blend') {
      this.#requireMovable();
      return {
        selector: selector ?? measured?.selector ?? DEFAULT_SELECTOR,
        ratio: recomputeRatio ?? measured?.ratio ?? DEFAULT_RATIO,
      };
    }
    if (this.#unmovable !== undefined) return { refused: 'not_movable' };
    if (this.#quality === undefined) return { refused: 'not_profiled' };
    const ratio = recomputeRatio ?? measured?.ratio;
    if (measured === undefined || ratio! < measured.ratio) return { refused: 'quality_bound' };
    return { selector: measured.selector, ratio: ratio! };
  }

  #requireMovable(): void {
    if (this.#unmovable === undefined) return;
    throw new RadixkvError(
      'invalid_value',
      `this model's keys can't be moved to other positions (${this.#unmovable}), so nothing can be blended; use cache.mode "exact"`,
      { param: 'cache.mode' },
    );
  }
}
