/** Runs the suites in tests/gpu on a software GPU, in processes that have its driver from their start. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { gpuEnvironment } from '../support/software-gpu.js';

for (const suite of ['device', 'service']) {
  test(`on a GPU: the ${suite} suite`, async () => {
    const file = fileURLToPath(new URL(`../gpu/${suite}.suite.js`, import.meta.url));
    const child = spawn(process.execPath, ['--enable-source-maps', '--test-reporter=spec', file], {
      env: gpuEnvironment(),
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
    assert.equal(code, 0, output);
    assert.match(output, /ℹ pass [1-9]/, 'tests ran');
    assert.match(output, /ℹ skipped 0/);
  });
}
