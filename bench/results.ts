/** What a benchmark run leaves behind: bench/results/<name>.json, one self-contained file per benchmark. */
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, cpus, totalmem } from 'node:os';
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BenchRow } from './harness.js';

export interface MachineFacts {
  readonly cpu: string;
  readonly cores: number;
  readonly memoryGiB: number;
  readonly node: string;
  readonly onnxruntime: string;
}

export interface BenchResult {
  readonly name: string;
  /** When it ran, ISO 8601. */
  readonly date: string;
  /** The command line that repeats it. */
  readonly command: string;
  readonly quick: boolean;
  readonly machine: MachineFacts;
  /** What the peer says about itself; absent where there is no peer. */
  readonly peer?: Readonly<Record<string, string | number | boolean>>;
  /** Compared measurements; empty for benchmarks that only have `measures`. */
  readonly rows: readonly BenchRow[];
  /** Single numbers of a benchmark without subjects, by name with unit. */
  readonly measures?: unknown;
}

export function machineFacts(): MachineFacts {
  const ort: { version: string } = createRequire(import.meta.url)('onnxruntime-node/package.json');
  return {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    node: process.version,
    onnxruntime: ort.version,
  };
}

/** Path of a result in the sources, seen from dist/bench. */
export const resultPath = (name: string): string =>
  fileURLToPath(new URL(`../../bench/results/${name}.json`, import.meta.url));

export function writeResult(path: string, result: BenchResult): void {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `${JSON.stringify(result, undefined, 2)}\n`);
}

export function readResult(path: string): BenchResult {
  const result: BenchResult = JSON.parse(readFileSync(path, 'utf8'));
  return result;
}
