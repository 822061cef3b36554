/** Has the running answers computed, a token each a step: in which batches, from which it learns what batches take. */
import type { Run } from '../cache/device-runs.js';
import type { Engine } from '../engine/engine.js';
import type { SamplerId } from '../engine/protocol.js';
import type { SampledToken } from '../engine/sampler.js';
import { RadixkvError } from '../errors.js';
import { BATCH_SLOTS, SHARED_PARTS } from '../model/graphs/decode-batch.js';
import { DecodeCosts, type DecodeShape } from './decode-costs.js';
import { type BatchLimits, type PlannedBatch, planDecode, sharedRowsOf } from './decode-plan.js';

/** Batches are planned anew after so many steps, since answers grow. */
const STEPS_PER_PLAN = 64;
const PLANS_PER_TRIAL = 16;

/** An answer whose last token is drawn, but whose row is not computed yet; its run has room for it. */
export interface Decoded {
  readonly run: Run;
  readonly sampler: SamplerId;
  readonly nextToken: number;
}

export class Decoder<Answer extends Decoded> {
  readonly #engine: Engine;
  readonly #limits: BatchLimits;
  readonly #costs = new DecodeCosts();
  #planned: { readonly answers: readonly Answer[]; readonly batches: readonly PlannedBatch<Answer>[] } = {
    answers: [],
    batches: [],
  };
  #stepsPlanned = 0;
  #plans = 0;

  constructor(options: { readonly engine: Engine; readonly chunkTokens: number }) {
    this.#engine = options.engine;
    this.#limits = {
      rowsMax: BATCH_SLOTS,
      sharedRowsMin: options.chunkTokens,
      sharedRowsStep: SHARED_PARTS,
    };
  }

  /**
   * Computes the row of each answer, and draws the token after it.
   *
   * @param isWanted asked just before an answer is computed: it may have ended meanwhile
   * @param onToken told what was drawn for an answer, or why it can't go on
   */
  async step(
    answers: readonly Answer[],
    isWanted: (answer: Answer) => boolean,
    onToken: (answer: Answer, token: SampledToken | RadixkvError) => void,
  ): Promise<void> {
    for (const { members, sharedRows } of this.#plan(answers)) {
      const wanted = members.filter(isWanted);
      if (wanted.length === 0) continue;
      const drawn = await this.#decode(wanted, sharedRowsOf(wanted, sharedRows, this.#limits));
      for (const [i, answer] of wanted.entries()) onToken(answer, drawn[i]!);
    }
  }

  /** The same batches for a while, as long as the answers are the same. */
  #plan(answers: readonly Answer[]): readonly PlannedBatch<Answer>[] {
    const { answers: before, batches } = this.#planned;
    const areSame = answers.length === before.length && answers.every((answer, i) => answer === before[i]);
    if (areSame && ++this.#stepsPlanned < STEPS_PER_PLAN) return batches;
    this.#stepsPlanned = 0;
    // What was measured to be slow once is tried again now and then.
    const isTrial = ++this.#plans % PLANS_PER_TRIAL === 0;
    const predict = (shape: DecodeShape) =>
      isTrial ? this.#costs.believed(shape) : this.#costs.predict(shape);
    this.#planned = { answers, batches: planDecode(answers, predict, this.#limits) };
    return this.#planned.batches;
  }

  async #decode(answers: readonly Answer[], sharedRows: number): Promise<(SampledToken | RadixkvError)[]> {
    const positions = answers.map(({ run }) => run.length);
    const rows = answers.map(({ run, nextToken: token, sampler }) => {
      return { run: run.id, position: run.length, token, sampler };
    });
    try {
      const { result, ms } = await this.#engine.call<'decode'>({ op: 'decode', rows, sharedRows });
      this.#costs.measured({ positions, sharedRows }, ms);
      for (const { run, nextToken } of answers) {
        run.tokens[run.length] = nextToken;
        run.length++;
      }
      return result.sampled.map((drawn) =>
        'error' in drawn
          ? new RadixkvError('engine_failed', `the engine failed: ${drawn.error}`, { retryAfterS: 1 })
          : drawn,
      );
    } catch (error) {
      if (!(error instanceof RadixkvError)) throw error;
      return answers.map(() => error);
    }
  }
}
