/**
 * radixkv itself as a subject: the service without HTTP, its engine for decoding, and a server of its own process for
 * what is on disk after a restart.
 *
 * Prompts go through the service as a request would (scheduling, cache, sampling included). Decoding is timed step by
 * step at the engine, message to its thread and back included, since the service would stop at the end of text.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { performance } from 'node:perf_hooks';
import type { WeightsOption } from '../src/config/options.js';
import { parseServeOptions } from '../src/config/options.js';
import type { EngineResults } from '../src/engine/protocol.js';
import { systemClock } from '../src/model/clock.js';
import { importModel } from '../src/model/importer.js';
import { ModelRegistry } from '../src/model/registry.js';
import { createBackend } from '../src/server.js';
import { GREEDY } from '../src/serving/completion.js';
import { canDropPageCache } from './page-cache.js';
import { benchRequest } from './request.js';
import { RestartedServer } from './restarted.js';
import type { Subject } from './subject.js';

const MODEL = 'bench';

/** Numbers that the service's own runs and samplers never reach. */
const OWN_ID = 1_000_000_000;

export interface OursOptions {
  readonly ggufPath: string;
  readonly threads: number;
  readonly weights: WeightsOption;
}

/** Imports the model into a temporary directory, which `close` removes. */
export async function createOurs({ ggufPath, threads, weights }: OursOptions): Promise<Subject> {
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-bench-'));
  const modelsDir = join(directory, 'models');
  const model = await new ModelRegistry({ directory: modelsDir, importModel, clock: systemClock }).import({
    name: MODEL,
    source: ggufPath,
    weights,
    replace: false,
    locate: async () => ggufPath,
  });
  // No disk tier here: what one run had written would be a hit in the next.
  const defaults = parseServeOptions({ dataDir: directory, diskBytes: '0' });
  const backend = await createBackend({ ...defaults, threads, modelDirectory: model.directory });
  const restarted = new RestartedServer(MODEL, { 'data-dir': directory, threads, weights });
  const { cache, engine, scheduler, service } = backend;
  const { tileTokens } = defaults;

  /** Serves a prompt with one token of answer; milliseconds to that token. */
  const serve = async (tokens: readonly number[]): Promise<number> => {
    await scheduler.idle();
    const prompt = { kind: 'tokens', tokens } as const;
    const request = benchRequest({ prompt, promptField: 'prompt', maxTokens: 1 });
    const start = performance.now();
    for await (const event of service.complete(request)) if (event.type === 'end') break;
    return performance.now() - start;
  };

  return {
    name: `radixkv (${weights})`,
    supports: (from) => from !== 'disk, page cache dropped' || canDropPageCache(),
    prefill: serve,
    async decode(context, steps) {
      const sampler = OWN_ID;
      const run = OWN_ID;
      await scheduler.idle();
      await engine.call({ op: 'createRun', run, capacityTokens: context.length + steps });
      await engine.call({ op: 'createSampler', sampler, params: GREEDY, vocab: 49_152 });
      let token = 0;
      for (let start = 0; start < context.length; start += tileTokens) {
        const tokens = Int32Array.from(context.slice(start, start + tileTokens));
        const { result } = await engine.call<'prefill'>({
          op: 'prefill',
          run,
          start,
          tokens,
          samplers: [sampler],
        });
        token = result.sampled[0]!.token;
      }
      const times: number[] = [];
      for (let step = 0; step < steps; step++) {
        const start = performance.now();
        const position = context.length + step;
        const rows = [{ run, position, token, sampler }];
        const { result } = await engine.call<'decode'>({ op: 'decode', rows, sharedRows: 0 });
        times.push(performance.now() - start);
        token = drawnToken(result.sampled[0]!);
      }
      await engine.call({ op: 'freeRun', run });
      await engine.call({ op: 'freeSampler', sampler });
      return times;
    },
    async ttft(cached, fresh, from) {
      if (from === 'disk') return restarted.ttft(cached, fresh, 'warm');
      if (from === 'disk, page cache dropped') return restarted.ttft(cached, fresh, 'dropped');
      if (from !== 'cold') {
        await serve([...cached, ...fresh.toReversed()]);
        await scheduler.idle();
        if (from === 'host') cache.dropWarm();
      }
      return serve([...cached, ...fresh]);
    },
    async close() {
      await backend.close();
      await rm(directory, { recursive: true, force: true });
    },
  };
}

function drawnToken(drawn: EngineResults['decode']['sampled'][number]): number {
  if ('error' in drawn) throw new Error(drawn.error);
  return drawn.token;
}
