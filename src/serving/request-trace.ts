/** How a request is served, as told to whoever traces it. */

/** It waits, its prompt is computed, its answers are; one that gives way waits again. */
export type Phase = 'queue' | 'prefill' | 'decode';

/** What happens within a phase: chunks are read from disk, a tile is computed, a turn of blending. */
export type Step = 'load' | 'tile' | 'blend';

/** Must be cheap, and must not throw. */
export interface RequestTrace {
  /** A phase begins now, and the one before it ends. */
  phase(name: Phase): void;
  /**
   * A step of the phase ends now.
   *
   * @param startMs by `performance.now()`
   * @param tokens that it computed
   */
  step(name: Step, startMs: number, tokens?: number): void;
}
