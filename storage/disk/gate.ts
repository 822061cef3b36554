/** Lets a bounded number of tasks run at once; the others wait in line. */
import assert from 'node:assert/strict';

export class Gate {
  readonly #tasksMax: number;
  readonly #line: (() => void)[] = [];
  #tasks = 0;

  constructor(tasksMax: number) {
    assert(tasksMax > 0);
    this.#tasksMax = tasksMax;
  }

  async run<T>(task: () => Promise<T>): Promise<T> {
    if (this.#tasks < this.#tasksMax) this.#tasks++;
    else await new Promise<void>((enter) => this.#line.push(enter));
    try {
      return await task();
    } finally {
      const next = this.#line.shift();
      if (next === undefined) this.#tasks--;
      else next(); // which takes this place
    }
  }
}
