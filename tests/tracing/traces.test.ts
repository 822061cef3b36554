/** What a collector gets of requests to the real service, and what requests feel of a collector that is not there. */
import assert from 'node:assert/strict';
import { Writable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import pino from 'pino';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import { DEFAULT_CACHE, GREEDY } from '../../src/serving/completion.js';
import { CompletionTrace } from '../../src/tracing/completion-trace.js';
import { tracesUrl } from '../../src/tracing/endpoint.js';
import { createOpenTelemetry } from '../../src/tracing/open-telemetry.js';
import type { Tracing } from '../../src/tracing/spans.js';
import { testBackend } from '../support/backend.js';
import { fakeApp } from '../support/fake-app.js';
import { Collector } from './collector.js';

const CLOSE_MS = 60_000;
const TRACE_ID = '0af7651916cd43dd8448eb211c80319c';
const PARENT_ID = 'b7ad6b7169203331';
const PROMPT = 'promptsecret '.repeat(20);

async function tracedService(t: TestContext, tracing: Tracing) {
  const lines: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      lines.push(String(chunk));
      done();
    },
  });
  const logger = pino({ level: 'info' }, sink);
  const backend = await testBackend(t, { tracing });
  const { service, statistics } = backend;
  return { app: createApp({ service, statistics, logger, tracing }), backend, lines };
}

const create = (url: string) => createOpenTelemetry({ url, version: '1.2.3', logger: undefined });

test('a request is one trace, continued from the caller: a server span, the completion, its phases, their tiles', async (t) => {
  const collector = await Collector.start(t);
  const tracing = create(collector.url);
  const { app, backend, lines } = await tracedService(t, tracing);
  const model = backend.service.model.id;
  const ask = () =>
    supertest(app)
      .post('/v1/completions?q=querysecret')
      .set('traceparent', `00-${TRACE_ID}-${PARENT_ID}-01`)
      .set('authorization', 'Bearer keysecret')
      .set('x-request-id', 'mine')
      .send({
        model,
        prompt: PROMPT,
        max_tokens: 5,
        stop: ['stopsecret'],
        user: 'usersecret',
        temperature: 0,
      });
  const { usage } = (await ask().expect(200)).body;
  await ask().expect(200);
  await supertest(app).get('/health/live').expect(200);
  await tracing.close(CLOSE_MS);

  const [first, second] = collector.spans.filter(({ kind }) => kind === 2);
  assert(first !== undefined && second !== undefined);
  assert.equal(collector.spans.filter(({ kind }) => kind === 2).length, 2, 'probes are not traced');
  for (const span of collector.spans) {
    assert.equal(span.traceId, TRACE_ID);
    assert(span.endNs >= span.startNs);
  }
  assert.equal(first.name, 'POST /v1/completions');
  assert.equal(first.parentSpanId, PARENT_ID);
  assert.notEqual(first.status, 2);
  const { 'server.port': port, ...http } = first.attributes;
  assert.equal(typeof port, 'number');
  assert.deepEqual(http, {
    'http.request.method': 'POST',
    'http.route': '/v1/completions',
    'http.response.status_code': 200,
    'url.path': '/v1/completions',
    'url.scheme': 'http',
    'network.protocol.version': '1.1',
    'radixkv.request_id': 'mine',
  });

  const [completion, ...others] = collector.below(first);
  assert.deepEqual(others, []);
  assert.equal(completion!.name, `text_completion ${model}`);
  const { attributes } = completion!;
  assert.equal(attributes['gen_ai.operation.name'], 'text_completion');
  assert.equal(attributes['gen_ai.request.model'], model);
  assert.equal(attributes['gen_ai.request.max_tokens'], 5);
  assert.equal(attributes['gen_ai.usage.input_tokens'], usage.prompt_tokens);
  assert.equal(attributes['gen_ai.usage.output_tokens'], usage.completion_tokens);
  assert.equal(attributes['gen_ai.usage.cache_read.input_tokens'], 0);
  assert.equal(attributes['radixkv.computed_tokens'], usage.prompt_tokens);
  assert.deepEqual(attributes['gen_ai.response.finish_reasons'], ['length']);

  const phases = collector.below(completion!);
  assert.deepEqual(
    phases.map(({ name }) => name),
    ['queue', 'prefill', 'decode'],
  );
  const tiles = collector.below(phases[1]!);
  assert(tiles.length > 1 && tiles.every(({ name }) => name === 'tile'), 'a tile has 64 tokens');
  const computed = tiles.reduce((sum, { attributes: { 'radixkv.tokens': n } }) => sum + Number(n), 0);
  assert.equal(computed, usage.prompt_tokens);
  for (const tile of tiles)
    assert(tile.startNs >= phases[1]!.startNs - 1_000_000n && tile.endNs <= completion!.endNs);

  const again = collector.below(second)[0]!.attributes;
  assert.equal(again['gen_ai.usage.cache_read.input_tokens'], usage.prompt_tokens - 1);
  assert.equal(again['radixkv.cached_tokens.device'], usage.prompt_tokens - 1);

  assert.equal(collector.resource['service.name'], 'radixkv');
  assert.equal(collector.resource['service.version'], '1.2.3');
  assert.doesNotMatch(collector.text, /secret/, 'no prompt, stop string, query, key or user');

  const logged = lines.map((line) => JSON.parse(line)).filter(({ req }) => req.id === 'mine');
  assert.deepEqual(
    logged.map(({ trace_id, span_id }) => [trace_id, span_id]),
    [first, second].map(({ traceId, spanId }) => [traceId, spanId]),
  );
  assert.deepEqual(backend.statistics.gauges().traces?.spans, {
    sent: collector.spans.length,
    dropped: 0,
    failed: 0,
  });
});

test('errors are noted by their codes, and what ends early is told apart', async (t) => {
  const collector = await Collector.start(t);
  const tracing = create(collector.url);
  const { service, statistics } = fakeApp();
  const app = createApp({ service, statistics, tracing });
  const body = { model: service.model.id, prompt: PROMPT, max_tokens: 3 };
  const post = (fields: object) =>
    supertest(app)
      .post('/v1/completions')
      .send({ ...body, ...fields });
  service.unreadyReason = `it ends: ${PROMPT}`;
  await post({}).expect(503);
  service.unreadyReason = undefined;
  await post({ model: 'other' }).expect(404);
  await service.whileReplying(
    (request) => service.breakInText(request),
    async () => {
      await post({ stream: true }).expect(200);
    },
  );
  await supertest(app).get('/nowhere/promptsecret').expect(404);
  await tracing.close(CLOSE_MS);

  const servers = collector.spans.filter(({ kind }) => kind === 2);
  assert.deepEqual(
    servers.map(({ name, status, attributes }) => [
      name,
      attributes['http.response.status_code'],
      status === 2,
      attributes['error.type'],
    ]),
    [
      ['POST /v1/completions', 503, true, 'shutting_down'],
      ['POST /v1/completions', 404, false, undefined],
      ['POST /v1/completions', 200, true, 'engine_failed'],
      ['GET', 404, false, undefined],
    ],
  );
  const completions = servers.map((span) => collector.below(span));
  assert.deepEqual(
    completions.map((spans) => spans.map(({ status, attributes }) => [status, attributes['error.type']])),
    [[[2, 'shutting_down']], [], [[2, 'engine_failed']], []],
  );
  assert.doesNotMatch(collector.text.replaceAll('/nowhere/promptsecret', ''), /secret/);
});

test('what the caller did not choose to trace is not sent, and still has the id of its trace in the log', async (t) => {
  const collector = await Collector.start(t);
  const tracing = create(collector.url);
  const { app, backend, lines } = await tracedService(t, tracing);
  await supertest(app)
    .post('/v1/completions')
    .set('traceparent', `00-${TRACE_ID}-${PARENT_ID}-00`)
    .send({ model: backend.service.model.id, prompt: 'a', max_tokens: 1 })
    .expect(200);
  await tracing.close(CLOSE_MS);
  assert.deepEqual(collector.spans, []);
  assert.equal(JSON.parse(lines[0]!).trace_id, TRACE_ID);
});

test('closing waits for a collector that never answers no longer than it is told', async (t) => {
  const collector = await Collector.start(t, 'never');
  const tracing = create(collector.url);
  tracing.begin('GET', {}, {}).end();
  await tracing.close(1);
  assert.deepEqual(tracing.reading().spans, { sent: 0, dropped: 0, failed: 0 });
});

for (const [name, start] of [
  ['is not there', async () => 'http://127.0.0.1:9/v1/traces'],
  ['refuses', async (t: TestContext) => (await Collector.start(t, 400)).url],
] as const) {
  test(`a collector that ${name} harms no request; spans that are lost are counted, and it is logged once`, async (t) => {
    const warnings: string[] = [];
    const logger = pino(
      { level: 'warn' },
      new Writable({
        write(chunk, _encoding, done) {
          warnings.push(String(chunk));
          done();
        },
      }),
    );
    // Else it is tried again for ten seconds.
    process.env.OTEL_EXPORTER_OTLP_TIMEOUT = '100';
    t.after(() => {
      delete process.env.OTEL_EXPORTER_OTLP_TIMEOUT;
    });
    const tracing = createOpenTelemetry({ url: await start(t), version: '1', logger });
    const { app, backend } = await tracedService(t, tracing);
    const ask = () =>
      supertest(app)
        .post('/v1/completions')
        .send({ model: backend.service.model.id, prompt: 'a', max_tokens: 1 })
        .expect(200);
    for (let request = 0; request < 3; request++) await ask();
    await tracing.close(CLOSE_MS);
    await ask();
    const { spans } = tracing.reading();
    assert(spans.failed! >= 3 * 5, JSON.stringify(spans));
    assert.equal(spans.sent, 0);
    assert.equal(warnings.length, 1);
    assert.equal(JSON.parse(warnings[0]!).msg, 'traces could not be sent');
    const metrics = await supertest(app).get('/metrics').expect(200);
    assert.match(metrics.text, /^radixkv_trace_spans_total\{outcome="failed"\} [1-9]/m);
  });
}

test('spans beyond those that may wait are dropped and counted, and those of one completion are bounded', async (t) => {
  process.env.OTEL_BSP_MAX_QUEUE_SIZE = '10';
  t.after(() => {
    delete process.env.OTEL_BSP_MAX_QUEUE_SIZE;
  });
  const collector = await Collector.start(t);
  const tracing = create(collector.url);
  for (let span = 0; span < 25; span++) tracing.begin('GET', {}, {}).end();
  await tracing.close(CLOSE_MS);
  const { sent, dropped } = tracing.reading().spans;
  assert.equal(sent! + dropped!, 25);
  assert.equal(collector.spans.length, sent);
  assert(dropped! > 0);

  delete process.env.OTEL_BSP_MAX_QUEUE_SIZE;
  const other = create(collector.url);
  const root = other.begin('root', {}, {});
  const work = { n: 1, maxTokens: 1, sampling: GREEDY, cache: DEFAULT_CACHE, priority: 0 };
  const trace = new CompletionTrace(root, {
    endpoint: 'completions',
    model: 'm',
    id: 'x',
    stream: false,
    work,
  });
  trace.phase('queue');
  for (let step = 0; step < 1000; step++) trace.step('tile', performance.now(), 1);
  trace.phase('decode');
  trace.end({ error: undefined, isAborted: false });
  root.end();
  await other.close(CLOSE_MS);
  const completion = collector.named('text_completion m');
  assert.equal(completion.attributes['radixkv.spans_left_out'], 1000 + 2 - 128);
  assert.equal(collector.spans.filter(({ traceId }) => traceId === completion.traceId).length, 2 + 128);
});

test('the option of the endpoint wins over the variables of OpenTelemetry, of which the more exact one wins', () => {
  const shared = { OTEL_EXPORTER_OTLP_ENDPOINT: 'http://shared:4318/' };
  const both = { ...shared, OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: 'http://own:4318/here' };
  assert.equal(tracesUrl(undefined, {}), undefined);
  assert.equal(tracesUrl(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: '' }), undefined);
  assert.equal(tracesUrl(undefined, shared), 'http://shared:4318/v1/traces');
  assert.equal(tracesUrl(undefined, both), 'http://own:4318/here');
  assert.equal(tracesUrl('http://flag:1/base', both), 'http://flag:1/base/v1/traces');
  assert.equal(tracesUrl(undefined, { ...both, OTEL_SDK_DISABLED: 'true' }), undefined);
  assert.equal(tracesUrl(undefined, { ...both, OTEL_TRACES_EXPORTER: 'none' }), undefined);
  assert.throws(() => tracesUrl(undefined, { OTEL_EXPORTER_OTLP_ENDPOINT: 'collector:4317' }), {
    code: 'invalid_value',
    message: /^OTEL_EXPORTER_OTLP_ENDPOINT must be/,
  });
});
