/** The remote tier: first tokens, speed beside redis-benchmark, and what faults of Redis cost. Starts Redis itself. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WeightsOption } from '../src/config/options.js';
import { systemClock } from '../src/model/clock.js';
import { importModel } from '../src/model/importer.js';
import { ModelRegistry } from '../src/model/registry.js';
import { Ending } from './ending.js';
import { RedisServer } from './redis-server.js';
import { type FaultRow, remoteFaults } from './remote/faults.js';
import { type RemoteSpeed, remoteThroughput } from './remote/throughput.js';
import { type RemoteTtft, remoteTtft } from './remote/ttft.js';
import { digits } from './table.js';
import { importTiny } from './tiny.js';

const MODEL = 'bench';
const TTFT_AT_MOST = 0.12;
const SPEED_AT_LEAST = 0.7;
const RECOVERY_MS_AT_MOST = 15_000;

export interface RemoteMeasures {
  readonly ttft: RemoteTtft;
  readonly speeds: readonly RemoteSpeed[];
  readonly faults: readonly FaultRow[];
}

export async function remoteBench(options: {
  readonly gguf: string;
  readonly threads: number;
  readonly weights: WeightsOption;
  readonly isQuick: boolean;
  readonly onNotice: (message: string) => void;
}): Promise<RemoteMeasures> {
  const { gguf, threads, weights, isQuick, onNotice } = options;
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-remote-'));
  const ending = new Ending();
  ending.after(() => rm(directory, { recursive: true, force: true }));
  try {
    const modelsDir = join(directory, 'models');
    const registry = new ModelRegistry({ directory: modelsDir, importModel, clock: systemClock });
    await registry.import({ name: MODEL, source: gguf, weights, replace: false, locate: async () => gguf });
    await importTiny(modelsDir);
    const redis = await RedisServer.start(ending);
    const speeds = await remoteThroughput(
      redis,
      isQuick ? { chunks: 64, rounds: 2 } : { chunks: 256, rounds: 7 },
    );
    onNotice('throughput done');
    await redis.ask('FLUSHALL');
    const flags = { 'models-dir': modelsDir, threads, 'disk-bytes': 0, remote: redis.url };
    const directories = [join(directory, 'a'), join(directory, 'b')] as const;
    const ttft = await remoteTtft(MODEL, flags, directories, isQuick ? 2 : 7);
    onNotice('TTFT done');
    await redis.kill();
    const faults = await remoteFaults({ 'data-dir': directory, threads }, isQuick ? 4000 : 15_000, onNotice);
    return { ttft, speeds, faults };
  } finally {
    await ending.end();
  }
}

type State = 'cold' | 'remote' | 'second' | 'device';

/** Markdown. */
export function remoteTables({ ttft, speeds, faults }: RemoteMeasures): string {
  const of = (name: State, base: State, atMost?: number): string => {
    const share = ttft[name].median / ttft[base].median;
    const short = atMost !== undefined && share > atMost ? ', short of the target' : '';
    return `${digits(100 * share)} % of ${base}${short}`;
  };
  const ms = (name: State) => {
    const { median, min, max } = ttft[name];
    return `${digits(median)} ms (${digits(min)}–${digits(max)})`;
  };
  const first = table(
    ['32 new tokens after 2,048', 'TTFT (min–max)', 'share'],
    [
      ['cold', ms('cold'), ''],
      ['prefix in Redis only', ms('remote'), `${of('remote', 'cold', TTFT_AT_MOST)}, target ≤ 12 %`],
      ['again', ms('second'), `${of('second', 'device')}, target ≤ device`],
      ['computed here before (device)', ms('device'), of('device', 'cold')],
    ],
  );
  const second = table(
    ['', 'chunks', 'redis-benchmark', `share (min–max of rounds), target ≥ ${SPEED_AT_LEAST}×`],
    speeds.map(({ name, chunks, benchmark, share }) => {
      const short = share.median < SPEED_AT_LEAST ? ', short of the target' : '';
      const range = `${digits(share.median)}× (${digits(share.min)}–${digits(share.max)})${short}`;
      return [name, `${digits(chunks.median)} MB/s`, `${digits(benchmark.median)} MB/s`, range];
    }),
  );
  const third = table(
    ['fault', 'requests', 'failed', 'wrong', 'p95 TTFT', 'cold p95 + deadline', 'used again after'],
    faults.map((row) => {
      const bound = row.coldP95Ms + row.deadlineMs;
      const slow = row.p95Ms > bound ? ', above the target' : '';
      const late = row.recoveryMs > RECOVERY_MS_AT_MOST ? ', above the target' : '';
      return [
        row.fault,
        String(row.requests),
        String(row.failed),
        String(row.wrong),
        `${digits(row.p95Ms)} ms${slow}`,
        `${digits(row.coldP95Ms)} + ${row.deadlineMs} ms`,
        `${digits(row.recoveryMs / 1000)} s${late}`,
      ];
    }),
  );
  return [first, second, third].join('\n\n');
}

function table(header: readonly string[], rows: readonly (readonly string[])[]): string {
  return [header, header.map(() => '---'), ...rows].map((cells) => `| ${cells.join(' | ')} |`).join('\n');
}
