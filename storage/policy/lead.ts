/** How far one of two ways is ahead of the other, in standard deviations of what chance alone would do. */

export class Lead {
  readonly #halfLifeCapacities: number;
  #sum = 0;
  #squares = 0;

  /** What was counted so many capacities of uses ago counts half. */
  constructor(options: { readonly halfLifeCapacities: number }) {
    this.#halfLifeCapacities = options.halfLifeCapacities;
  }

  /** The first was ahead by `lead` over a span of so many capacities of uses. */
  add(lead: number, capacities: number): void {
    const fading = 2 ** -(capacities / this.#halfLifeCapacities);
    this.#sum = this.#sum * fading + lead;
    this.#squares = this.#squares * fading + lead ** 2;
  }

  /** 0 as long as both did the same. */
  get deviations(): number {
    return this.#squares > 0 ? this.#sum / Math.sqrt(this.#squares) : 0;
  }
}
