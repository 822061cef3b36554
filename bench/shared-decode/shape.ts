/** Sequences that are decoded at the same time. */
export interface Shape {
  readonly sequences: number;
  /** Tokens that all begin with, and those each has behind them. */
  readonly shared: number;
  readonly own: number;
}
