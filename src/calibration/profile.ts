/**
 * What blending was measured to do to the answers of a model: `blend-profile.json` in the model's directory.
 *
 * A profile is believed only if its version is this one and its fingerprint the model's; any doubt is no profile. The
 * fingerprint covers weights and KV, not what selects, probes and moves: those are the version's matter.
 */
import { randomUUID } from 'node:crypto';
import { readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { SELECTORS, type SelectorName } from '#blend';
import { BUILT_IN_PROFILES } from './built-in-profiles.js';

/** Raised whenever a selector, or a graph that scores, probes or rotates, changes what is recomputed. */
export const PROFILE_VERSION = 2;

export const PROFILE_FILE = 'blend-profile.json';

const COUNT = z.int().positive();
const SHARE = z.number().min(0).max(1);
const NATS = z.number().min(-1e-3);

const ROW = z.object({
  selector: z.custom<SelectorName>((value) => typeof value === 'string' && Object.hasOwn(SELECTORS, value)),
  /** Share of the reused tokens that was recomputed. */
  ratio: SHARE,
  /** Of full prefill's predictions from the blended ones: nats a token, mean over the questions. */
  kl: NATS,
  /** 95th percentile of that mean under bootstrap over the questions. */
  klUpper: NATS,
  /** Share of the answers' tokens that both predict. */
  sameBest: SHARE,
  /** 1 − `kl` / `kl` of plain reuse. */
  recovered: z.number().max(1.001),
});

const PROFILE = z.object({
  version: z.literal(PROFILE_VERSION),
  /** Of the model's manifest. */
  fingerprint: z.string(),
  /** In words: the passages and questions. */
  data: z.string(),
  questions: COUNT,
  /** In each prompt. */
  passages: COUNT,
  /** Median. */
  promptTokens: COUNT,
  /** Predictions compared for each question. */
  answerTokens: COUNT,
  /** `kl` of plain reuse. */
  reuseKl: NATS,
  rows: z.array(ROW),
});

export type BlendProfile = z.infer<typeof PROFILE>;
export type ProfileRow = z.infer<typeof ROW>;

/** The profile of a model: the one in its directory, else one that comes with the program; undefined: never measured. */
export async function readProfile(directory: string, fingerprint: string): Promise<BlendProfile | undefined> {
  const text = await readFile(join(directory, PROFILE_FILE), 'utf8').catch(() => 'null');
  const candidates = [parsed(text), ...BUILT_IN_PROFILES];
  return candidates
    .map((candidate) => PROFILE.safeParse(candidate).data)
    .find((profile) => profile?.fingerprint === fingerprint);
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Stores a profile in a model's directory, all or nothing. */
export async function writeProfile(directory: string, profile: BlendProfile): Promise<void> {
  const path = join(directory, PROFILE_FILE);
  const fresh = `${path}.${randomUUID()}`;
  await writeFile(fresh, `${JSON.stringify(PROFILE.parse(profile), null, 2)}\n`);
  await rename(fresh, path);
}

/** A selector at a ratio that was measured. */
export interface MeasuredChoice {
  readonly selector: SelectorName;
  readonly ratio: number;
}

/** A profile held to a bound: what serving asks it. */
export class ProfiledQuality {
  readonly #profile: BlendProfile;
  readonly #klMax: number;

  /** @param klMax nats a token that blending may cost, at the upper end of what the profile deems likely */
  constructor(profile: BlendProfile, klMax: number) {
    this.#profile = profile;
    this.#klMax = klMax;
  }

  /**
   * The least measured ratio from which on the divergence stays under the bound. Without a selector, that of the one
   * that needs the least; of several, the one that diverges least there. Undefined where none stays under it.
   */
  leastRatio(selector: SelectorName | undefined): MeasuredChoice | undefined {
    const names = selector === undefined ? this.#selectors() : [selector];
    const [best] = names
      .map((name) => this.#leastRow(name))
      .filter((row) => row !== undefined)
      .sort((a, b) => a.ratio - b.ratio || a.klUpper - b.klUpper);
    return best && { selector: best.selector, ratio: best.ratio };
  }

  #leastRow(selector: SelectorName): ProfileRow | undefined {
    const ascending = this.#profile.rows
      .filter((row) => row.selector === selector)
      .sort((a, b) => a.ratio - b.ratio);
    return ascending[ascending.findLastIndex(({ klUpper }) => klUpper > this.#klMax) + 1];
  }

  #selectors(): SelectorName[] {
    return [...new Set(this.#profile.rows.map((row) => row.selector))];
  }
}
