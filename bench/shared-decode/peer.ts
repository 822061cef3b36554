/** llama.cpp with a prefix shared by its sequences, in a process of its own: bench/peer/shared_decode.py. */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import type { Shape } from './shape.js';

/** Seen from dist/bench/shared-decode. */
const SCRIPT = fileURLToPath(new URL('../../../bench/peer/shared_decode.py', import.meta.url));
const ANSWER = z.object({ ms: z.array(z.number()) });

export class SharedPeer {
  readonly #process: ChildProcessWithoutNullStreams;
  readonly #lines: AsyncIterator<string>;

  private constructor(gguf: string, threads: number) {
    this.#process = spawn('python3', [SCRIPT, gguf, String(threads)]);
    this.#process.stderr.pipe(process.stderr);
    this.#lines = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** @returns undefined where llama-cpp-python is not installed. */
  static start(gguf: string, threads: number): SharedPeer | undefined {
    const { status } = spawnSync('python3', ['-c', 'import llama_cpp, numpy']);
    return status === 0 ? new SharedPeer(gguf, threads) : undefined;
  }

  /** Milliseconds of each step of all sequences. */
  async run({ sequences, shared, own }: Shape, steps: number): Promise<number[]> {
    this.#process.stdin.write(`${JSON.stringify({ sequences, shared, own, steps })}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error('llama-cpp-python ended');
    return ANSWER.parse(JSON.parse(value)).ms;
  }

  close(): void {
    this.#process.stdin.end();
  }
}
