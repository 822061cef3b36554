/** What tracing costs where there is none: nothing of its library is even loaded. */
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { test } from 'node:test';

const loaded = () =>
  Object.keys(createRequire(import.meta.url).cache).filter((file) =>
    /@opentelemetry.(sdk|exporter|otlp)/.test(file),
  );

test('the library of traces is loaded only with the module that makes them', async () => {
  await import('../../src/cli/program.js');
  assert.deepEqual(loaded(), []);
  await import('../../src/tracing/open-telemetry.js');
  assert(loaded().length > 0);
});
