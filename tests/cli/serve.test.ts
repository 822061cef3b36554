/** From the start of `serve` to its stop by a signal, with a server that only tells what happens to it. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { z } from 'zod';
import { curlLine, runServe } from '../../src/cli/serve.js';
import type { Terminal } from '../../src/cli/terminal.js';
import { parseServeOptions } from '../../src/config/options.js';
import { systemClock } from '../../src/model/clock.js';
import { ModelRegistry } from '../../src/model/registry.js';

const BODY = z.object({ model: z.string(), messages: z.array(z.object({ role: z.string() })) });

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`serve prints a working address and curl line, and ${signal} closes the server before it returns`, async (t) => {
    const dataDir = await mkdtemp(join(tmpdir(), 'radixkv-serve-'));
    t.after(() => rm(dataDir, { recursive: true }));
    const options = parseServeOptions({ dataDir, model: 'tiny' });
    const model = await new ModelRegistry({
      directory: options.modelsDir,
      clock: systemClock,
      importModel: ({ directory }) => writeFile(join(directory, 'manifest.json'), '{}'),
    }).import({
      name: 'tiny',
      source: '/tiny',
      weights: 'auto',
      replace: false,
      locate: async () => '/tiny',
    });

    const events: string[] = [];
    const listenersBefore = process.listenerCount(signal);
    const terminal: Terminal = {
      print: (line) => {
        events.push(line);
        // The last line before waiting; the signal comes when the listener is there.
        if (line.startsWith('Try it:')) setImmediate(() => process.emit(signal, signal));
      },
      note: () => undefined,
      progress: () => undefined,
      frame: () => undefined,
      endProgress: () => undefined,
    };
    await runServe(options, terminal, async (_options, modelDirectory) => {
      events.push(`start ${modelDirectory}`);
      return { url: 'http://127.0.0.1:8080', close: async () => void events.push('close') };
    });
    assert.deepEqual(events, [
      `start ${model.directory}`,
      'radixkv serves tiny at http://127.0.0.1:8080',
      `Try it:\n${curlLine('http://127.0.0.1:8080', 'tiny', false)}`,
      'close',
    ]);
    assert.equal(process.listenerCount(signal), listenersBefore);
  });
}

test('the printed curl line is one shell command that posts valid JSON', () => {
  const line = curlLine('http://127.0.0.1:8080', 'tiny', false);
  assert.ok(!line.includes('\n'));
  const script = `curl() { for argument in "$@"; do printf '%s\\n' "$argument"; done; }; ${line}`;
  const output = execFileSync('sh', ['-c', script], { encoding: 'utf8' }).trimEnd().split('\n');
  assert.ok(output.includes('http://127.0.0.1:8080/v1/chat/completions'));
  assert.ok(output.includes('content-type: application/json'));
  assert.equal(BODY.parse(JSON.parse(output.at(-1)!)).model, 'tiny');
});
