/**
 * Stop strings: finds the first one in streamed text and holds back what could still become one.
 *
 * Invariant: what is emitted, joined, is the text up to the first stop string (all of it without one); the stop string
 * and what follows are never emitted. Of stop strings that end at the same character the one that begins first wins.
 */
import assert from 'node:assert/strict';

export class StopMatcher {
  readonly #stop: readonly string[];
  /** Longest stop string minus one: more can't be the beginning of one. */
  readonly #heldMax: number;
  #held = '';
  #stopped = false;

  /** @param stop non-empty strings; none means that text passes through. */
  constructor(stop: readonly string[]) {
    assert.ok(
      stop.every((string) => string !== ''),
      'stop strings are not empty',
    );
    this.#stop = stop;
    this.#heldMax = stop.reduce((longest, string) => Math.max(longest, string.length - 1), 0);
  }

  /** Takes the next text; `emit` may be shown now. After `stop`, the string that was found, nothing more may be pushed. */
  push(text: string): { readonly emit: string; readonly stop: string | undefined } {
    assert.ok(!this.#stopped, 'text after a stop string');
    const all = this.#held + text;
    const match = this.#firstMatch(all);
    if (match !== undefined) {
      this.#stopped = true;
      this.#held = '';
      return { emit: all.slice(0, match.start), stop: match.string };
    }
    const held = this.#heldLength(all);
    this.#held = all.slice(all.length - held);
    return { emit: all.slice(0, all.length - held), stop: undefined };
  }

  /** The held text, when no more will come. */
  flush(): string {
    const held = this.#held;
    this.#held = '';
    return held;
  }

  /** The stop string that ends first, and where it begins; `undefined` without one. */
  #firstMatch(text: string): { readonly string: string; readonly start: number } | undefined {
    let best: { string: string; start: number; end: number } | undefined;
    for (const string of this.#stop) {
      const start = text.indexOf(string);
      const end = start + string.length;
      if (start < 0) continue;
      if (best === undefined || end < best.end || (end === best.end && start < best.start))
        best = { string, start, end };
    }
    return best;
  }

  /** Length of the longest suffix that is the beginning of a stop string. */
  #heldLength(text: string): number {
    for (let length = Math.min(this.#heldMax, text.length); length > 0; length--) {
      const suffix = text.slice(text.length - length);
      if (this.#stop.some((string) => string.startsWith(suffix))) return length;
    }
    return 0;
  }
}
