/**
 * After how long chunks are used again, learned by class, and what keeping one is worth.
 *
 * Each use of a chunk begins a *wait*, which ends when the chunk is used again, or unanswered. Time is a count (of
 * the uses of all chunks), ages are cut into half-octaves. For each class and age it counts the waits that came to be
 * that old and those that ended at that age; their quotient is the hazard, the chance to be used just then. Classes
 * with few waits take the hazard of all classes, and old counts fade.
 *
 * Worth is the Gittins index: over all spans for which the chunk could be kept from now on, the best quotient of its
 * chance to be used within the span and the time it is expected to take up until then. Knows no chunks.
 */
const AGES = 62;
/** Where each age begins, and the last one ends: 0, 1, 2, 3, 4, 6, 8, 12, 16, … */
const STARTS = Float64Array.from({ length: AGES + 1 }, (_, age) =>
  age < 2 ? age : (age % 2 === 0 ? 1 : 1.5) * 2 ** (age >> 1),
);
/** Waits of a class at an age that count as much as what all classes say. */
const SHARED_WAITS = 20;

/** A wait that began at `startedAt`; it ends once. */
export interface Wait {
  class: number;
  readonly startedAt: number;
  /** Infinity: it goes on. */
  endedAfter: number;
  next: Wait | undefined;
}

/** Waits that will come to one age next, or would if they had not ended; oldest first. */
interface Queue {
  first: Wait | undefined;
  last: Wait | undefined;
}

export class ReturnTimes {
  readonly #classes: number;
  /** `[class, age]`: waits that came to be so old. */
  readonly #reached: Float64Array;
  /** `[class, age]`: waits that ended at this age with a use. */
  readonly #returned: Float64Array;
  /** `[class, age]` */
  readonly #worth: Float64Array;
  readonly #queues = Array.from({ length: AGES }, (): Queue => ({ first: undefined, last: undefined }));

  constructor(options: { readonly classes: number }) {
    this.#classes = options.classes;
    this.#reached = new Float64Array(this.#classes * AGES);
    this.#returned = new Float64Array(this.#classes * AGES);
    this.#worth = new Float64Array(this.#classes * AGES);
  }

  begin(waitClass: number, now: number): Wait {
    const wait: Wait = { class: waitClass, startedAt: now, endedAfter: Infinity, next: undefined };
    append(this.#queues[0]!, wait);
    return wait;
  }

  /** The chunk was used. */
  end(wait: Wait, now: number): void {
    wait.endedAfter = now - wait.startedAt;
    const at = wait.class * AGES + ageOf(wait.endedAfter);
    this.#returned[at] = this.#returned[at]! + 1;
  }

  /** Nobody looks for the chunk any more. */
  abandon(wait: Wait, now: number): void {
    wait.endedAfter = now - wait.startedAt;
  }

  /** What keeping a chunk of this class and age is worth, as of the last `learn`: uses per chunk and time. */
  worth(waitClass: number, waited: number): number {
    return this.#worth[waitClass * AGES + ageOf(waited)]!;
  }

  /** Takes in what was counted, and then has counts fade to `fading` of themselves. */
  learn(now: number, fading: number): void {
    this.#grow(now);
    const shared = this.#sharedHazards();
    const hazards = new Float64Array(AGES);
    for (let each = 0; each < this.#classes; each++) {
      for (let age = 0; age < AGES; age++) {
        const at = each * AGES + age;
        const returned = this.#returned[at]! + SHARED_WAITS * shared[age]!;
        hazards[age] = Math.min(1, returned / (this.#reached[at]! + SHARED_WAITS));
        this.#reached[at] = this.#reached[at]! * fading;
        this.#returned[at] = this.#returned[at]! * fading;
      }
      for (let age = 0; age < AGES; age++) this.#worth[each * AGES + age] = bestQuotient(hazards, age);
    }
  }

  /** Counts waits at each age that they came to by now. */
  #grow(now: number): void {
    for (const [age, queue] of this.#queues.entries()) {
      const start = STARTS[age]!;
      for (let wait = queue.first; wait !== undefined && now - wait.startedAt >= start; wait = queue.first) {
        queue.first = wait.next;
        if (queue.first === undefined) queue.last = undefined;
        if (wait.endedAfter < start) continue;
        const at = wait.class * AGES + age;
        this.#reached[at] = this.#reached[at]! + 1;
        const older = this.#queues[age + 1];
        if (older !== undefined) append(older, wait);
      }
    }
  }

  #sharedHazards(): Float64Array {
    const hazards = new Float64Array(AGES);
    for (let age = 0; age < AGES; age++) {
      let reached = 0;
      let returned = 0;
      for (let at = age; at < this.#reached.length; at += AGES) {
        reached += this.#reached[at]!;
        returned += this.#returned[at]!;
      }
      hazards[age] = reached > 0 ? Math.min(1, returned / reached) : 0;
    }
    return hazards;
  }
}

function append(queue: Queue, wait: Wait): void {
  wait.next = undefined;
  if (queue.last === undefined) queue.first = wait;
  else queue.last.next = wait;
  queue.last = wait;
}

function ageOf(waited: number): number {
  if (waited < 2) return Math.max(0, waited);
  const octave = 31 - Math.clz32(Math.min(waited, 2 ** 31 - 1));
  return 2 * octave + ((waited >> (octave - 1)) & 1);
}

/** The best chance of a return by expected time kept, over all spans from `age` on. */
function bestQuotient(hazards: Float64Array, age: number): number {
  let waiting = 1;
  let time = 0;
  let best = 0;
  for (let to = age; to < AGES; to++) {
    const returning = waiting * hazards[to]!;
    time += (STARTS[to + 1]! - STARTS[to]!) * (waiting - returning / 2);
    waiting -= returning;
    best = Math.max(best, (1 - waiting) / time);
  }
  return best;
}
