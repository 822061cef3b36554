/** Runs a suite of tests/gpu in a process that has a GPU's driver from its start. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { gpuEnvironment } from './software-gpu.js';

/** Fails with the suite's report when one of its tests does, or when none ran. */
export async function runGpuSuite(name: 'device' | 'service'): Promise<void> {
  const file = fileURLToPath(new URL(`../gpu/${name}.suite.js`, import.meta.url));
  const child = spawn(process.execPath, ['--enable-source-maps', '--test-reporter=spec', file], {
    env: gpuEnvironment(),
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [output, [code]] = await Promise.all([text(child.stdout), once(child, 'exit')]);
  assert.equal(code, 0, output);
  assert.match(output, /ℹ pass [1-9]/, 'tests ran');
  assert.match(output, /ℹ skipped 0/);
}
