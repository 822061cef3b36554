/** What is to be ended at the end, the last one first. */
export class Ending {
  readonly #hooks: (() => Promise<void>)[] = [];

  after(hook: () => Promise<void>): void {
    this.#hooks.push(hook);
  }

  async end(): Promise<void> {
    for (const hook of this.#hooks.splice(0).toReversed()) await hook();
  }
}
