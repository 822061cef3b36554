/** What `radixkv model calibrate` measures, shows and keeps, on a tiny model of random weights. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { profilePlot } from '../../src/calibration/plot.js';
import {
  type BlendProfile,
  PROFILE_FILE,
  PROFILE_VERSION,
  readProfile,
} from '../../src/calibration/profile.js';
import { PLOT_FILE, profileLines, runCalibrate } from '../../src/cli/calibrate.js';
import { runImport } from '../../src/cli/models.js';
import type { Terminal } from '../../src/cli/terminal.js';
import { parseServeOptions, type ServeOptions } from '../../src/config/options.js';
import { readManifest } from '../../src/model/manifest.js';
import { TINY_MODEL } from '../support/backend.js';

const PASSAGES = ['the mill stands by the river', 'bread is baked at five', 'the road goes over the hill'];
const DATA = [
  ...PASSAGES.map((text, i) => ({ id: `p${i}`, title: `Title ${i}`, text })),
  { question: 'Where is the mill?', answer: 'by the river', passages: ['p0'] },
  { question: 'When is bread baked?', answer: 'at five', passages: ['p1'] },
];

interface Setup {
  readonly options: ServeOptions;
  readonly data: string;
  readonly printed: string[];
  readonly notes: string[];
  readonly terminal: Terminal;
}

async function setUp(t: TestContext): Promise<Setup> {
  const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-calibrate-'));
  t.after(() => rm(dataDir, { recursive: true }));
  const data = join(dataDir, 'mill.jsonl');
  await writeFile(data, DATA.map((line) => JSON.stringify(line)).join('\n'));
  const printed: string[] = [];
  const notes: string[] = [];
  const terminal: Terminal = {
    print: (line) => void printed.push(line),
    note: (line) => void notes.push(line),
    progress: () => undefined,
    frame: () => undefined,
    endProgress: () => undefined,
  };
  const options = parseServeOptions({ dataDir, model: 'tiny', weights: 'float32', threads: '1' });
  await runImport(TINY_MODEL, options, { name: 'tiny', force: false }, terminal);
  printed.length = 0;
  notes.length = 0;
  return { options, data, printed, notes, terminal };
}

test('a calibrated model has a profile, a table and a plot that agree', async (t) => {
  const { options, data, printed, notes, terminal } = await setUp(t);
  await runCalibrate(options, { data, questions: '2', passages: '3' }, terminal);
  const directory = join(options.modelsDir, 'tiny');
  const profile = await readProfile(directory, (await readManifest(directory)).fingerprint);
  assert(profile !== undefined);
  assert.deepEqual([profile.questions, profile.passages, profile.data], [2, 3, 'mill.jsonl']);
  assert(profile.reuseKl > 1e-7, `${profile.reuseKl}: what reuse loses must be seen`);
  for (const { kl, klUpper, recovered } of profile.rows) {
    assert(klUpper >= kl);
    assert(Math.abs(recovered - (1 - kl / profile.reuseKl)) < 1e-9);
  }
  assert(printed.length > profile.rows.length);
  for (const line of profileLines(profile, options.blendKlMax)) assert(printed.includes(line), line);
  assert.equal(await readFile(join(directory, PLOT_FILE), 'utf8'), profilePlot(profile, options.blendKlMax));
  assert.match(notes.at(-2)!, /^question 1 of 2 measured, about \d+ s left$/);
  assert.equal(notes.at(-1), 'question 2 of 2 measured');
});

test('what can not be measured is refused before anything is kept', async (t) => {
  const { options, data, terminal } = await setUp(t);
  const choices = { data, questions: '1', passages: '3' };
  const refused = (change: Partial<typeof choices>, message: RegExp) =>
    assert.rejects(runCalibrate(options, { ...choices, ...change }, terminal), {
      code: 'invalid_value',
      message,
    });
  await refused({ questions: '0' }, /--questions must be a whole number from 1/);
  await refused({ passages: 'all' }, /--passages must be/);
  await refused({ data: `${data}.gone` }, /--data .*ENOENT/);
  const [passage, , , question] = DATA;
  const long = { ...passage, text: 'sea '.repeat(600) };
  await writeFile(data, [long, question].map((line) => JSON.stringify(line)).join('\n'));
  await refused({}, /too many for the context of 2048; lower --passages/);
  const short = { id: 'p0', text: 'sea' };
  await writeFile(data, [short, question].map((line) => JSON.stringify(line)).join('\n'));
  await refused({}, /no passage is long enough/);
  await assert.rejects(readFile(join(options.modelsDir, 'tiny', PROFILE_FILE)), { code: 'ENOENT' });
});

const MEASURED: BlendProfile = {
  version: PROFILE_VERSION,
  fingerprint: 'f',
  data: 'a test',
  questions: 12,
  passages: 8,
  promptTokens: 1200,
  answerTokens: 24,
  reuseKl: 0.4,
  rows: [
    { selector: 'hkvd', ratio: 0.15, kl: 0.2, klUpper: 0.3, sameBest: 0.8, recovered: 0.5 },
    { selector: 'hybrid', ratio: 0.15, kl: 0.03, klUpper: 0.04, sameBest: 0.95, recovered: 0.925 },
    { selector: 'hkvd', ratio: 0.3, kl: 0.03, klUpper: 0.05, sameBest: 0.95, recovered: 0.925 },
    { selector: 'hybrid', ratio: 0.3, kl: 0.03, klUpper: 0.035, sameBest: 0.95, recovered: 0.925 },
  ],
};

test('the table says what auto will do under the bound', () => {
  const lines = profileLines(MEASURED, 0.05);
  assert(lines.includes('| hkvd | 0.15 | 0.2000 | 0.3000 | 80.0 % | 50 % |'));
  assert.match(lines.at(-1)!, /"auto" blends with hybrid, recomputing 15 %/);
  assert.match(
    profileLines(MEASURED, 0.001).at(-1)!,
    /no selector keeps KL under .* computes prompts in full/,
  );
});

test('the plot has a line for each selector from plain reuse on, in the frame, with labels apart', () => {
  const svg = profilePlot(MEASURED, 0.05);
  const lines = [...svg.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) =>
    points!.split(' ').map((point) => point.split(',').map(Number)),
  );
  assert.deepEqual(
    lines.map((line) => line.length),
    [3, 3],
  );
  const [start] = lines[0]!;
  assert.deepEqual(lines[1]![0], start);
  for (const [x, y] of lines.flat()) assert(x! >= 0 && x! <= 720 && y! >= 0 && y! <= 440, `${x},${y}`);
  const heights = [...svg.matchAll(/y="([\d.]+)" style="fill[^>]*>(hkvd|hybrid)</g)].map(([, y]) =>
    Number(y),
  );
  assert.equal(heights.length, 2);
  assert(Math.abs(heights[0]! - heights[1]!) >= 12, `${heights.join(', ')}: both end at the same point`);
  assert(svg.includes('--blend-kl-max') && svg.includes('prefers-color-scheme:dark'));
  assert(!profilePlot(MEASURED, 9).includes('--blend-kl-max'), 'a bound above all is not drawn');
});
