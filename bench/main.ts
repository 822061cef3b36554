/** `npm run bench -- <what>`: runs a benchmark, prints its table and writes bench/results/<what>.json. */
import { readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Argument, Command, Option } from 'commander';
import { parseServeOptions, WEIGHTS_OPTIONS, type WeightsOption } from '../src/config/options.js';
import type { GpuProvider } from '../src/engine/device-probe.js';
import { systemClock } from '../src/model/clock.js';
import { DEFAULT_MODEL, fetchPinnedModel } from '../src/model/source/default-model.js';
import { hubFromEnvironment } from '../src/model/source/hub.js';
import { blendTables } from './blend/tables.js';
import { blendBench } from './blend.bench.js';
import { decodeCases, prefillCases, ttftCases } from './cases.js';
import { deviceBench, deviceTable } from './device.bench.js';
import { diskBench, diskTable } from './disk.bench.js';
import { sustainedBench, sustainedTable } from './documents/sustained.bench.js';
import { documentsBench, documentsTable } from './documents/ttft.bench.js';
import { gapsBench, gapsTable } from './gaps.bench.js';
import { type BenchCase, runCases } from './harness.js';
import { historyBench, historyTable } from './history.bench.js';
import { isolationBench, isolationTable } from './isolation.bench.js';
import { liveness } from './liveness.js';
import { loadBench, loadTable } from './load.bench.js';
import { lookupBench, lookupTable } from './lookup.bench.js';
import { nodesBench, nodesTable } from './nodes.bench.js';
import { createOurs } from './ours.js';
import { streamOverhead } from './overhead.js';
import { createPeer } from './peer.js';
import { measureQuality, qualityTable } from './quality.js';
import { radixBench } from './radix.bench.js';
import { recordingBench, recordingLine } from './recording.bench.js';
import { remoteBench, remoteTables } from './remote.bench.js';
import { type BenchResult, machineFacts, readResult, resultPath, writeResult } from './results.js';
import { sharedDecodeBench, sharedDecodeTable } from './shared-decode.bench.js';
import { soak } from './soak.js';
import { hitRate, judge, SHORT_SOAK_TOLERANCE, SOAK_TOLERANCE, verdictTable } from './soak-verdict.js';
import { startUpBench, startUpLine } from './start-up.bench.js';
import { benchSection, markdownTable, replaceSection } from './table.js';
import { traceBench } from './trace.bench.js';

const COMPARED = ['ttft', 'prefill', 'decode'] as const;
/** Long enough for spinning threads of the subject before to go to sleep. */
const PAUSE_MS = 300;
const SOAK_SEED = 1;

interface Options {
  readonly quick?: true;
  readonly json?: string;
  readonly gguf?: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly url: string;
  readonly model: string;
  readonly text?: string;
  readonly data?: string;
  readonly questions?: number;
  readonly minutes: number;
  readonly rounds: number;
  readonly llamaServer: string;
  readonly slots: number;
  readonly trace?: string;
  readonly device: GpuProvider;
  readonly remote?: string;
}

type Measured = Pick<BenchResult, 'rows' | 'peer' | 'measures'>;

function casesOf(what: (typeof COMPARED)[number], quick: boolean): BenchCase[] {
  if (what === 'ttft') return ttftCases();
  return what === 'prefill' ? prefillCases() : decodeCases(quick ? 16 : 64);
}

const onNotice = (message: string): void => console.error(message);

/** The default model's file, from an earlier download or fetched now. */
function defaultGguf(): Promise<string> {
  const directory = join(parseServeOptions().dataDir, 'downloads');
  return fetchPinnedModel(DEFAULT_MODEL, {
    directory,
    hub: hubFromEnvironment(process.env, systemClock),
    onNotice,
  });
}

async function compare(
  what: (typeof COMPARED)[number],
  { gguf, threads, quick, weights }: Options,
): Promise<Measured> {
  const ggufPath = gguf ?? (await defaultGguf());
  const peer = await createPeer({ ggufPath, threads, contextTokens: 4096, flashAttention: true });
  const subjects = [await createOurs({ ggufPath, threads, weights }), peer];
  try {
    const rows = await runCases(casesOf(what, quick ?? false), subjects, {
      rounds: quick ? 3 : 7,
      pause: () => sleep(PAUSE_MS),
      onRow: (row) => console.error(`${row.name} done`),
    });
    const names = subjects.map(({ name }) => name);
    console.log(markdownTable(rows, names));
    return { rows, peer: peer.facts };
  } finally {
    for (const subject of subjects) await subject.close();
  }
}

async function blend({ gguf, threads, data, questions, quick }: Options): Promise<Measured> {
  if (data === undefined)
    throw new Error('blend needs --data: a file of MuSiQue questions with their passages');
  const measures = await blendBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    file: data,
    questions: questions ?? (quick ? 2 : 50),
    onNotice,
  });
  console.log(blendTables(measures));
  return { rows: [], measures: { ...measures } };
}

async function documents({ gguf, threads, weights, data, questions, quick }: Options): Promise<Measured> {
  if (data === undefined) throw new Error('documents needs --data, as blend does');
  const rows = await documentsBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    weights,
    file: data,
    questions: questions ?? (quick ? 2 : 15),
    onNotice,
  });
  console.log(documentsTable(rows));
  return { rows: [], measures: { weights, rows } };
}

async function sustained({ gguf, threads, data, questions, quick }: Options): Promise<Measured> {
  if (data === undefined) throw new Error('sustained needs --data, as blend does');
  const measures = await sustainedBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    file: data,
    questions: questions ?? (quick ? 30 : 300),
    onNotice,
  });
  console.log(sustainedTable(measures));
  return { rows: [], measures: { ...measures } };
}

async function sharedDecode({ gguf, threads, weights, quick }: Options): Promise<Measured> {
  const rows = await sharedDecodeBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    weights,
    rounds: quick ? 4 : 16,
    onNotice,
  });
  console.log(sharedDecodeTable(rows));
  return { rows: [], measures: { weights, rows } };
}

async function load({ gguf, quick, ...options }: Options): Promise<Measured> {
  const result = await loadBench({
    ...options,
    gguf: gguf ?? (await defaultGguf()),
    quick: quick ?? false,
    onNotice,
  });
  console.log(loadTable(result));
  return { rows: [], ...result };
}

async function gaps({ gguf, threads, weights, quick }: Options): Promise<Measured> {
  const rounds = await gapsBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    weights,
    rounds: quick ? 1 : 5,
    onNotice,
  });
  console.log(gapsTable(rounds));
  return { rows: [], measures: { weights, rounds } };
}

async function quality({ gguf, threads, text, quick }: Options): Promise<Measured> {
  if (text === undefined) onNotice('no --text given: scoring the golden texts only');
  const rows = await measureQuality({
    path: gguf ?? (await defaultGguf()),
    threads,
    textFile: text,
    graphs: quick ? ['decode'] : ['prefill', 'decode'],
    onNotice,
  });
  console.log(qualityTable(rows));
  return { rows: [], measures: rows };
}

/** On the volume of the data directory, where the tier would be. */
async function disk({ quick }: Options): Promise<Measured> {
  const directory = parseServeOptions().dataDir;
  const size = quick ? { bytes: 2 ** 28, rounds: 2 } : { bytes: 2 ** 30, rounds: 5 };
  const speeds = await diskBench({ ...size, directory, note: onNotice });
  console.log(diskTable(speeds));
  const startUp = await startUpBench({ chunks: quick ? 5000 : 100_000, rounds: size.rounds, directory });
  console.log(`\n${startUpLine(startUp)}`);
  return { rows: [], measures: { ...size, speeds, startUp } };
}

async function sharedRemote({ gguf, threads, weights, quick }: Options): Promise<Measured> {
  const measures = await remoteBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    weights,
    isQuick: quick ?? false,
    onNotice,
  });
  console.log(remoteTables(measures));
  return { rows: [], measures: { weights, ...measures } };
}

/** A failed verdict is the exit code's business, and the result is written all the same. */
async function soaked({ minutes, quick }: Options): Promise<Measured> {
  const record = await soak({ seconds: quick ? 30 : minutes * 60, seed: SOAK_SEED, onNotice });
  const verdicts = judge(record, quick ? SHORT_SOAK_TOLERANCE : SOAK_TOLERANCE);
  console.log(verdictTable(verdicts));
  if (verdicts.some(({ holds }) => !holds)) process.exitCode = 1;
  const { samples, pauses, ...counts } = record;
  const hitRates = pauses.map((_, part) => hitRate(record, part / pauses.length, (part + 1) / pauses.length));
  const rssBytesMax = Math.max(...samples.map(({ rssBytes }) => rssBytes));
  const measures = { verdicts, ...counts, samples: samples.length, hitRates, rssBytesMax, pauses };
  return { rows: [], measures };
}

async function device({ gguf, threads, quick, device: provider }: Options): Promise<Measured> {
  const measures = await deviceBench({
    provider,
    threads,
    quick: quick ?? false,
    gguf: async () => gguf ?? defaultGguf(),
    wantsReal: gguf !== undefined,
    onNotice,
  });
  console.log(deviceTable(measures));
  return { rows: [], measures: { ...measures } };
}

async function lookup({ gguf, threads, weights, quick }: Options): Promise<Measured> {
  const measures = await lookupBench({
    gguf: gguf ?? (await defaultGguf()),
    threads,
    weights,
    lookups: quick ? 50 : 500,
    onNotice,
  });
  console.log(lookupTable(measures));
  return { rows: [], measures: { weights, ...measures } };
}

async function recording({ quick }: Options): Promise<Measured> {
  const measures = await recordingBench(quick ? 6 : 30);
  console.log(recordingLine(measures));
  return { rows: [], measures: { ...measures } };
}

/** Of the counts that the server keeps, not of a benchmark's numbers (statistics.ts). */
async function statistics({ quick }: Options): Promise<Measured> {
  const measures = await historyBench({ requests: 10_000_000, reads: quick ? 50 : 1000 });
  console.log(historyTable(measures));
  return { rows: [], measures: { ...measures } };
}

async function nodes({ quick, remote: url }: Options): Promise<Measured> {
  const rows = await nodesBench({
    rounds: quick ? 1 : 5,
    onNotice,
    ...(url !== undefined && { remote: url }),
  });
  console.log(nodesTable(rows));
  return { rows: [], measures: { rows } };
}

async function measure(what: string, options: Options): Promise<Measured> {
  if (what === 'quality') return quality(options);
  if (what === 'blend') return blend(options);
  if (what === 'documents') return documents(options);
  if (what === 'sustained') return sustained(options);
  if (what === 'shared-decode') return sharedDecode(options);
  if (what === 'load') return load(options);
  if (what === 'gaps') return gaps(options);
  if (what === 'device') return device(options);
  if (what === 'nodes') return nodes(options);
  if (what === 'disk') return disk(options);
  if (what === 'remote') return sharedRemote(options);
  if (what === 'soak') return soaked(options);
  if (what === 'statistics') return statistics(options);
  if (what === 'lookup') return lookup(options);
  if (what === 'recording') return recording(options);
  if (what === 'isolation') {
    const rows = await isolationBench(options.quick ? 20 : 200);
    console.log(isolationTable(rows));
    return { rows: [], measures: { rows } };
  }
  if (what === 'radix') return { rows: [], measures: await radixBench() };
  if (what === 'overhead') {
    const measures = await streamOverhead({ ...options, tokens: options.quick ? 64 : 256 });
    console.log(measures);
    return { rows: [], measures };
  }
  if (what === 'trace') {
    const { trace: path, quick = false } = options;
    return { rows: [], measures: traceBench({ quick, ...(path !== undefined && { path }) }) };
  }
  if (what === 'liveness') {
    const measures = await liveness({ ...options, promptTokens: 4000 });
    console.log(measures);
    return { rows: [], measures: { ...measures } };
  }
  return compare(COMPARED.find((name) => name === what)!, options);
}

function updateReadme(): void {
  const section = benchSection(COMPARED.map((name) => readResult(resultPath(name))));
  writeFileSync('README.md', replaceSection(readFileSync('README.md', 'utf8'), section));
}

const program = new Command('npm run bench --')
  .addArgument(
    new Argument('<what>', 'table: rewrite the README from the results').choices([
      ...COMPARED,
      'radix',
      'trace',
      'overhead',
      'liveness',
      'quality',
      'blend',
      'documents',
      'sustained',
      'shared-decode',
      'gaps',
      'load',
      'device',
      'nodes',
      'disk',
      'remote',
      'isolation',
      'soak',
      'statistics',
      'lookup',
      'recording',
      'table',
    ]),
  )
  .option('--quick', 'fewer rounds and tokens; for a look, not for the README')
  .option('--json <file>', 'where to write the result (default: bench/results/<what>.json)')
  .option('--gguf <path>', 'model file for both sides (default: the default model)')
  .addOption(new Option('--weights <format>', 'our weight format').choices(WEIGHTS_OPTIONS).default('auto'))
  .addOption(
    new Option('--threads <count>', 'threads of either side')
      .default(availableParallelism())
      .argParser(Number),
  )
  .option('--data <file>', 'questions with passages (blend, documents, sustained)')
  .option('--questions <count>', 'how many of them (default: 50, 15, 300)', Number)
  .option('--text <file>', 'more text to score, its first 500 tokens (quality)')
  .option('--minutes <count>', 'how long (soak)', Number, 10)
  .option('--rounds <count>', 'how often each server runs (load)', Number, 1)
  .option('--llama-server <path>', "llama.cpp's server (load)", 'llama-server')
  .option('--slots <count>', 'chats that it answers at the same time (load)', Number, 8)
  .addOption(
    new Option('--device <provider>', 'the GPU (device)').choices(['webgpu', 'cuda']).default('webgpu'),
  )
  .option('--remote <url>', 'remote tier that the nodes may use (nodes)')
  .option('--trace <file>', 'another trace than the default one (trace)')
  .option('--url <url>', 'running server (overhead, liveness)', 'http://127.0.0.1:8080')
  .option('--model <name>', 'model of the running server (overhead, liveness)', 'smollm2-135m-instruct')
  .action(async (what: string, options: Options) => {
    if (what === 'table') {
      updateReadme();
      return;
    }
    const flags = options.quick ? ' --quick' : '';
    writeResult(options.json ?? resultPath(what), {
      name: what,
      date: new Date().toISOString(),
      command: `npm run bench -- ${what}${flags}`,
      quick: options.quick ?? false,
      machine: machineFacts(),
      ...(await measure(what, options)),
    });
  });
await program.parseAsync();
