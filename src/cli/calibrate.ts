/** `radixkv model calibrate`: measures a model, shows what it found, and keeps it with the model. */
import { writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { calibrate } from '../calibration/calibrate.js';
import { CORPUS_FILES, corpusPrompts } from '../calibration/corpus.js';
import { profilePlot } from '../calibration/plot.js';
import { type BlendProfile, PROFILE_FILE, ProfiledQuality, writeProfile } from '../calibration/profile.js';
import type { ServeOptions } from '../config/options.js';
import { RadixkvError } from '../errors.js';
import { ensureModel, openRegistry } from './models.js';
import type { Terminal } from './terminal.js';

export const PLOT_FILE = 'blend-profile.svg';

export interface CalibrateChoices {
  /** Undefined: the corpus that comes along. */
  readonly data: string | undefined;
  readonly questions: string;
  readonly passages: string;
}

/** @throws RadixkvError `invalid_value` for data or numbers that can't be used; what getting the model throws. */
export async function runCalibrate(
  options: ServeOptions,
  choices: CalibrateChoices,
  terminal: Terminal,
): Promise<void> {
  const questions = countOf('--questions', choices.questions);
  const passages = countOf('--passages', choices.passages);
  const files = choices.data === undefined ? CORPUS_FILES : [choices.data];
  const prompts = await corpusPrompts(files, { questions, passages });
  const { name, directory } = await ensureModel(openRegistry(options), options, terminal);
  terminal.note(`measuring ${name} on ${prompts.length} questions with up to ${passages} passages each`);
  const startedAt = performance.now();
  const profile = await calibrate({
    directory,
    threads: options.threads,
    prompts,
    data: choices.data === undefined ? 'the handbook of an island (comes along)' : basename(choices.data),
    onPrompt: (done) => {
      const leftMs = ((performance.now() - startedAt) / done) * (prompts.length - done);
      terminal.note(`question ${done} of ${prompts.length} measured${leftText(leftMs)}`);
    },
  });
  await writeProfile(directory, profile);
  await writeFile(join(directory, PLOT_FILE), profilePlot(profile, options.blendKlMax));
  for (const line of profileLines(profile, options.blendKlMax)) terminal.print(line);
  terminal.print(`kept in ${join(directory, PROFILE_FILE)}, with a plot in ${PLOT_FILE} beside it`);
}

/** The profile as a Markdown table, and what follows from it under a bound. */
export function profileLines(profile: BlendProfile, klMax: number): string[] {
  const { rows, reuseKl } = profile;
  const cells = [
    ['selector', 'ratio', 'KL', 'KL, 95 %', 'same token', 'recovered'],
    ['---', '--:', '--:', '--:', '--:', '--:'],
    ['plain reuse', '0', reuseKl.toFixed(4), '', '', '0 %'],
    ...rows.map(({ selector, ratio, kl, klUpper, sameBest, recovered }) => [
      selector,
      String(ratio),
      kl.toFixed(4),
      klUpper.toFixed(4),
      `${(100 * sameBest).toFixed(1)} %`,
      `${(100 * recovered).toFixed(0)} %`,
    ]),
  ];
  const choice = new ProfiledQuality(profile, klMax).leastRatio(undefined);
  const verdict =
    choice === undefined
      ? `no selector keeps KL under --blend-kl-max ${klMax}: cache.mode "auto" computes prompts in full`
      : `under --blend-kl-max ${klMax} cache.mode "auto" blends with ${choice.selector}, recomputing ${100 * choice.ratio} %`;
  return [...cells.map((row) => `| ${row.join(' | ')} |`), '', verdict];
}

function countOf(flag: string, text: string): number {
  if (/^[1-9]\d{0,3}$/.test(text)) return Number(text);
  throw new RadixkvError('invalid_value', `${flag} must be a whole number from 1 to 9999`, { param: flag });
}

function leftText(ms: number): string {
  if (ms === 0) return '';
  return ms < 60_000
    ? `, about ${Math.ceil(ms / 1000)} s left`
    : `, about ${Math.ceil(ms / 60_000)} min left`;
}
