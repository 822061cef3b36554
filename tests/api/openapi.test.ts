/** The OpenAPI document says what the server does: its routes, what it takes, and what it answers. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, suite, test } from 'node:test';
import { z } from 'zod';
import { type AppParts, createApp, operationsOf } from '../../src/api/app.js';
import { looksLike } from '../../src/api/fields.js';
import { openApiDocument, pathTemplate } from '../../src/api/openapi.js';
import { json, type Operation, operation } from '../../src/api/operation.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { testBackend } from '../support/backend.js';
import { fakeApp } from '../support/fake-app.js';
import { FakeService } from '../support/fake-service.js';

type Document = ReturnType<typeof openApiDocument>;

/** What a router tells of a route. */
interface Layer {
  readonly route?: {
    readonly path: string;
    readonly stack: readonly { readonly method: string | undefined }[];
  };
}

/** `GET /v1/models/*id` of each route, but for those that refuse all other methods. */
function routesOf(app: ReturnType<typeof createApp>): string[] {
  return (app.router.stack as readonly Layer[]).flatMap(({ route }) => {
    const methods = new Set(route?.stack.map(({ method }) => method));
    methods.delete(undefined);
    return [...methods].map((method) => `${method!.toUpperCase()} ${route!.path}`);
  });
}

/** Every object in a JSON value, with the way to it. */
function* objectsIn(value: unknown, path = '#'): Generator<[path: string, object: object]> {
  if (typeof value !== 'object' || value === null) return;
  if (!Array.isArray(value)) yield [path, value];
  for (const [key, child] of Object.entries(value))
    yield* objectsIn(child, `${path}/${key.replaceAll('/', '~1')}`);
}

function at(document: Document, ref: string): unknown {
  const steps = ref.split('/').slice(1);
  return steps.reduce<unknown>(
    (value, step) => Reflect.get(Object(value), step.replaceAll('~1', '/')),
    document,
  );
}

const SAYS_NOTHING = new Set(['description', 'title', 'default', 'deprecated', 'examples']);

/** Schemas that any value would satisfy. */
function emptySchemas(document: Document): string[] {
  const places = /\/(schema|items|x-itemSchema|properties\/[^/]+|(anyOf|oneOf|allOf)\/\d+)$/;
  return [...objectsIn(document)]
    .filter(
      ([path, schema]) => places.test(path) && Object.keys(schema).every((key) => SAYS_NOTHING.has(key)),
    )
    .map(([path]) => path);
}

/** What makes something before what asks for it, and what takes it away last. */
function rank({ method }: Operation): number {
  return ['put', 'post', 'get', 'delete'].indexOf(method);
}

/** The body of the operation's example, with other fields. */
function exampleWith({ example }: Operation, fields: object): object {
  return { ...Object(example?.body), ...fields };
}

/** The way to every field of a JSON value. */
function fieldsIn(value: unknown): string[] {
  return [...objectsIn(value)].flatMap(([path, object]) =>
    Object.keys(object).map((field) => `${path}/${field}`),
  );
}

/** The answer is what the operation's schema says, and has no field that the schema lacks. */
function assertAnswer({ id, answers }: Operation, status: number, type: string, value: unknown): void {
  const schema = answers[status]?.content[type];
  assert(schema !== undefined, `${id} answered ${status} ${type}: add it to its answers`);
  const { success, data, error } = schema.safeParse(value);
  assert(success, `${id} answered what its schema for ${status} does not allow: ${error?.message}`);
  const known = new Set(fieldsIn(data));
  const lacking = fieldsIn(value).filter((path) => !known.has(path));
  assert.deepEqual(
    lacking,
    [],
    `the schema of what ${id} answers with ${status} lacks these fields: add them`,
  );
  assert.deepEqual(data, value);
}

/** The data of events, parsed where they are JSON. */
function eventsIn(text: string): unknown[] {
  return [...text.matchAll(/^data: (.*)$/gm)].map(([, data]) =>
    data === '[DONE]' ? data : JSON.parse(data!),
  );
}

function urlOf({ path, example }: Operation, base: string, ids: ReadonlyMap<string, string>): URL {
  const filled = path.replace(/[:*](\w+)/g, (_, name: string) => {
    const value = example?.params?.[name] ?? ids.get(path);
    assert(value !== undefined, `${path} has no example of ${name}`);
    return value;
  });
  return new URL(`${filled}?${String(new URLSearchParams(example?.query))}`, base);
}

suite('the document', () => {
  let parts: AppParts;
  let server: RunningServer;
  let operations: Operation[];
  let document: Document;
  const closing: (() => Promise<unknown>)[] = [];

  before(async () => {
    const directory = await mkdtemp(join(tmpdir(), 'radixkv-openapi-'));
    closing.push(() => rm(directory, { recursive: true }));
    const backend = await testBackend(
      { after: (hook) => closing.push(hook) },
      {
        documentsFile: join(directory, 'documents.db'),
        recentRequests: 20,
        keepExcerpts: true,
        disk: { directory: join(directory, 'kv'), capacityBytes: 2 ** 24, freeBytesMin: 0, codec: 'float16' },
      },
    );
    const { service, statistics, history, controls, documents } = backend;
    parts = { service, statistics, history, controls, documents: documents! };
    server = await startServer({
      app: createApp(parts),
      host: '127.0.0.1',
      port: 0,
      shutdownTimeoutMs: 1000,
      onShutdown: () => controls.events.close(),
    });
    closing.push(() => server.close());
    operations = operationsOf(parts);
    document = JSON.parse(await (await fetch(`${server.url}/openapi.json`)).text());
  });

  after(async () => {
    for (const close of closing.toReversed()) await close();
  });

  test('has every route, and no other: what app.ts routes by itself belongs in operationsOf', () => {
    const described = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    assert.deepEqual(described.sort(), routesOf(createApp(parts)).map(pathTemplate).sort());
  });

  test('names each operation once, and refers to nothing that it lacks', () => {
    const ids = operations.map(({ id }) => id);
    assert.deepEqual(ids, [...new Set(ids)]);
    for (const [path, object] of objectsIn(document)) {
      if (!('$ref' in object) || typeof object.$ref !== 'string') continue;
      const found = at(document, object.$ref);
      assert(typeof found === 'object' && found !== null && !('$ref' in found), `${path}: ${object.$ref}`);
    }
  });

  test('says of every field and parameter what it takes: what checks by code has a shape by looksLike', () => {
    const anything = z.looseObject({ value: z.unknown() });
    const planted = operation({
      id: 'planted',
      method: 'post',
      path: '/planted',
      tag: 'server',
      summary: '',
      body: z.object({
        unsaid: z.custom<string>(() => true),
        said: looksLike(
          z.string(),
          z.custom<string>(() => true),
        ),
      }),
      answers: { 200: json(anything) },
      handle: () => {},
    });
    assert.deepEqual(emptySchemas(openApiDocument([planted])), [
      '#/paths/~1planted/post/responses/200/content/application~1json/schema/properties/value',
      '#/components/schemas/PlantedRequest/properties/unsaid',
    ]);
    assert.deepEqual(emptySchemas(document), []);
  });

  test('has examples that work, and schemas that are true of every answer', async () => {
    const ids = new Map<string, string>();
    const model = parts.service.model.id;
    const answered = new Set<string>();
    const ask = async (each: Operation, body = each.example?.body) => {
      const url = urlOf(each, server.url, ids);
      const response = await fetch(url, {
        method: each.method.toUpperCase(),
        ...(body !== undefined && {
          body: JSON.stringify(body),
          headers: { 'content-type': 'application/json' },
        }),
        ...(each.upload !== undefined && {
          body: await archive(each.upload),
          headers: { 'content-type': each.upload },
        }),
        ...(each.lines && {
          body: `{"id": "boat", "text": "It brings flour."}\n{"id": "boat"}\n`,
          headers: { 'content-type': 'application/x-ndjson' },
        }),
      });
      const text = await response.text();
      assert(response.ok, `the example of ${each.id}: ${response.status} ${text}`);
      const type = response.headers.get('content-type')!.split(';')[0]!;
      const isJson = type === 'application/json';
      const values = isJson ? [JSON.parse(text)] : type === 'text/event-stream' ? eventsIn(text) : [text];
      assert(values.length > 0, each.id);
      for (const value of values) assertAnswer(each, response.status, type, value);
      if (response.status >= 201 && isJson) ids.set(`${each.path}/:id`, values[0].id);
      if (each.tag === 'completions' && isJson) ids.set('/v1/requests/:id', values[0].id);
      answered.add(each.id);
    };
    for (const each of operations.toSorted((a, b) => rank(a) - rank(b))) {
      if (each.id === 'streamCacheEvents') continue;
      await ask(each);
      if (each.tag !== 'completions') continue;
      await ask(each, exampleWith(each, { stream: true }));
      if (each.id === 'createMessage') continue;
      const logprobs = each.id === 'createCompletion' ? { logprobs: 1 } : { logprobs: true, top_logprobs: 1 };
      await ask(each, exampleWith(each, { ...logprobs, stream: true }));
    }
    const chat = operations.find(({ id }) => id === 'createChatCompletion')!;
    await ask(chat, {
      model,
      messages: [{ role: 'user', content: 'Who lit it?' }],
      documents: [{ title: 'The lamp', text: 'Ada lit the lamp of the island at dusk, as she does.' }],
      cache: { mode: 'blend', recompute_ratio: 0.2, explain: true },
      stream: true,
      stream_options: { include_usage: true },
      max_tokens: 2,
    });
    const stats = operations.find(({ id }) => id === 'getStatistics')!;
    for (const query of [{ window: '5m' }, { group_by: 'tenant' }])
      await ask({ ...stats, example: { query } });
    const top = operations.find(({ id }) => id === 'listTopSavers')!;
    await ask({ ...top, example: { query: { by: 'document' } } });
    answered.add('streamCacheEvents');
    await readEvents(operations.find(({ id }) => id === 'streamCacheEvents')!);
    assert.deepEqual(
      operations.map(({ id }) => id).filter((id) => !answered.has(id)),
      [],
    );
  });

  /** One that this server made. */
  async function archive(type: string): Promise<ArrayBuffer> {
    const response = await fetch(`${server.url}/v1/cache/export`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ model: parts.service.model.id }),
    });
    assert.equal(response.headers.get('content-type'), type);
    return response.arrayBuffer();
  }

  /** Reads the kept events until there was one of each type, each of them checked. */
  async function readEvents(each: Operation): Promise<void> {
    const missing = new Set(['BlockStored', 'BlockRemoved', 'AllBlocksCleared']);
    const aborter = new AbortController();
    const response = await fetch(`${server.url}${each.path}?after=0`, { signal: aborter.signal });
    let rest = '';
    for await (const piece of response.body!.pipeThrough(new TextDecoderStream())) {
      const end = (rest + piece).lastIndexOf('\n\n') + 2;
      for (const event of eventsIn((rest + piece).slice(0, end))) {
        assertAnswer(each, 200, 'text/event-stream', event);
        missing.delete(String(Reflect.get(Object(event), 'type')));
      }
      rest = (rest + piece).slice(end);
      if (missing.size === 0) break;
    }
    aborter.abort();
  }

  test('has the errors that there are, with their codes', async () => {
    const cases = [
      ['/v1/chat/completions', '{', 'Error'],
      ['/v1/cache/warm', '{"model": "other", "prompts": [{"prompt": "a"}]}', 'Error'],
      ['/v1/messages', '{"model": 1}', 'MessagesError'],
    ] as const;
    for (const [path, body, name] of cases) {
      const headers = { 'content-type': 'application/json' };
      const response = await fetch(`${server.url}${path}`, { method: 'POST', body, headers });
      const answer = JSON.parse(await response.text());
      const place = `#/paths/${path.replaceAll('/', '~1')}/post/responses/${response.status}`;
      const allOf = at(document, `${place}/content/application~1json/schema/allOf`);
      assert(Array.isArray(allOf), place);
      const [shape, codes] = allOf;
      assert.deepEqual(shape, { $ref: `#/components/schemas/${name}` });
      const code = answer.error.code ?? answer.error.details.error_code;
      assert(JSON.stringify(codes).includes(`"${code}"`), `${path} ${code}`);
    }
  });
});

test('an error in a stream is one of the events that are described', async () => {
  const { app, statistics, service } = fakeApp({ reply: (request) => service.breakInText(request) });
  const operations = operationsOf({ service, statistics });
  const server = await startServer({
    app,
    host: '127.0.0.1',
    port: 0,
    shutdownTimeoutMs: 1000,
  });
  try {
    for (const each of operations.filter(({ tag }) => tag === 'completions')) {
      const response = await fetch(`${server.url}${each.path}`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(exampleWith(each, { stream: true })),
      });
      const events = eventsIn(await response.text());
      for (const event of events) assertAnswer(each, 200, 'text/event-stream', event);
      assert.match(JSON.stringify(events.at(-1)), /engine_failed/);
    }
  } finally {
    await server.close();
  }
});

test('who needs a key is told so, and what is open to all is described as open', () => {
  const { statistics } = fakeApp();
  const { paths, security } = openApiDocument(operationsOf({ service: new FakeService(), statistics }));
  assert.deepEqual(security, [{ bearer: [] }, { apiKey: [] }, {}]);
  const open = Object.entries(paths).filter(([, methods]) =>
    Object.values(methods).some((each) => 'security' in each),
  );
  assert.deepEqual(open.map(([path]) => path).sort(), [
    '/dashboard',
    '/dashboard/{path}',
    '/docs',
    '/health/live',
    '/health/ready',
    '/metrics',
    '/openapi.json',
  ]);
});
