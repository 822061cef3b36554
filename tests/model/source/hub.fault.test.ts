/** The Hub protocol against a local server that speaks it, with every fault a download meets. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { RadixkvError } from '../../../src/errors.js';
import type { Clock } from '../../../src/model/clock.js';
import type { Progress } from '../../../src/model/progress.js';
import type { HttpOptions } from '../../../src/model/source/http.js';
import { downloadHubModel, hubFromEnvironment } from '../../../src/model/source/hub.js';
import { COMMIT, type HubServer, type ServedFile, startHub } from './hub-server.js';

const REPO = 'org/tiny';
const WEIGHTS = randomBytes(300_000);
const MODEL: Readonly<Record<string, ServedFile>> = {
  'config.json': { bytes: Buffer.from('{"model_type":"llama"}') },
  'tokenizer.json': { bytes: Buffer.from('{"model":{}}') },
  'model.safetensors': { bytes: WEIGHTS, large: true },
  'README.md': { bytes: Buffer.from('# tiny') },
};

interface Setup {
  readonly hub: HubServer;
  readonly http: HttpOptions;
  readonly directory: string;
  readonly sleeps: number[];
  readonly progress: Progress[];
  readonly target: string;
  fetchModel(file?: string): Promise<{ path: string; commit: string }>;
}

async function setUp(t: TestContext, files = MODEL): Promise<Setup> {
  const hub = await startHub(REPO, files);
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-hub-'));
  t.after(async () => {
    await hub.close();
    await rm(directory, { recursive: true });
  });
  const sleeps: number[] = [];
  const progress: Progress[] = [];
  const clock: Clock = { now: () => 0, sleep: async (ms) => void sleeps.push(ms) };
  const http = { endpoint: hub.endpoint, token: 'secret', clock };
  return {
    hub,
    http,
    directory,
    sleeps,
    progress,
    target: join(directory, 'org--tiny', COMMIT),
    fetchModel: (file) =>
      downloadHubModel(http, { repo: REPO, revision: 'main', file }, directory, (at) => {
        progress.push(at);
        hub.stored(at.done);
      }),
  };
}

/** The interrupted download of an earlier process. */
async function leavePartial(s: Setup, file: string, bytes: Buffer): Promise<void> {
  const path = join(s.target, `${file}.partial`);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
}

const ranges = (s: Setup) =>
  s.hub.seen.filter((request) => request.origin === 'storage').map((request) => request.range);

const failsWith = (code: string, pattern: RegExp) => (error: unknown) => {
  assert.ok(error instanceof RadixkvError, String(error));
  assert.equal(error.code, code);
  assert.match(error.message, pattern);
  return true;
};

test('a model is its config, tokenizer and weights, byte for byte, and nothing else', async (t) => {
  const s = await setUp(t);
  assert.deepEqual(await s.fetchModel(), { path: s.target, commit: COMMIT });
  assert.deepEqual((await readdir(s.target)).sort(), ['config.json', 'model.safetensors', 'tokenizer.json']);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
  const last = s.progress.at(-1)!;
  assert.equal(last.done, last.total);
});

test('a second download asks for the list only', async (t) => {
  const s = await setUp(t);
  await s.fetchModel();
  s.hub.seen.length = 0;
  await s.fetchModel();
  assert.deepEqual(
    s.hub.seen.map((request) => request.path),
    [`/api/models/${REPO}/revision/main?blobs=true`],
  );
});

test('the token goes to the endpoint and never to the host it redirects to', async (t) => {
  const s = await setUp(t);
  await s.fetchModel();
  const seenBy = (origin: string) => s.hub.seen.filter((request) => request.origin === origin);
  assert.ok(seenBy('endpoint').length >= 4);
  for (const request of seenBy('endpoint')) assert.equal(request.authorization, 'Bearer secret');
  assert.equal(seenBy('storage').length, 1);
  for (const request of seenBy('storage')) assert.equal(request.authorization, undefined);
});

test('a connection dropped at any byte is resumed at that byte', async (t) => {
  for (const dropAfter of [1, 1000, WEIGHTS.length - 1]) {
    const s = await setUp(t);
    s.hub.fileFaults.push('ignore-range', 'ignore-range', { dropAfter }); // config and tokenizer come first
    await s.fetchModel();
    assert.deepEqual(ranges(s), [undefined, `bytes=${dropAfter}-`], `dropped after ${dropAfter}`);
    assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
    assert.equal(s.sleeps.length, 1);
  }
});

test('a download interrupted in an earlier process goes on where it stopped', async (t) => {
  const s = await setUp(t);
  await leavePartial(s, 'model.safetensors', WEIGHTS.subarray(0, 120_000));
  await s.fetchModel();
  assert.deepEqual(ranges(s), ['bytes=120000-']);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
  assert.ok(!(await readdir(s.target)).some((name) => name.endsWith('.partial')));
});

test('a server that ignores the range is taken from the start', async (t) => {
  const s = await setUp(t);
  await leavePartial(s, 'model.safetensors', Buffer.alloc(500, 7));
  s.hub.fileFaults.push('ignore-range', 'ignore-range', 'ignore-range');
  await s.fetchModel();
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('a server that resumes at another byte is not believed', async (t) => {
  const s = await setUp(t);
  await leavePartial(s, 'model.safetensors', WEIGHTS.subarray(0, 500));
  s.hub.fileFaults.push('ignore-range', 'ignore-range', 'wrong-range');
  await s.fetchModel();
  assert.deepEqual(ranges(s), ['bytes=500-', undefined]);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('an answer that ends early without saying so is resumed', async (t) => {
  const s = await setUp(t);
  s.hub.fileFaults.push('ignore-range', 'ignore-range', { endAfter: 700 });
  await s.fetchModel();
  assert.deepEqual(ranges(s), [undefined, 'bytes=700-']);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('a complete partial is not asked for again when its size is listed', async (t) => {
  const s = await setUp(t);
  await leavePartial(s, 'model.safetensors', WEIGHTS);
  await s.fetchModel();
  assert.deepEqual(ranges(s), []);
});

test('a complete partial of unlisted size is recognised by the 416', async (t) => {
  const s = await setUp(t, {
    ...MODEL,
    'model.safetensors': { bytes: WEIGHTS, large: true, listedSize: null },
  });
  await leavePartial(s, 'model.safetensors', WEIGHTS);
  await s.fetchModel();
  assert.deepEqual(ranges(s), [`bytes=${WEIGHTS.length}-`]);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('a partial that is too long is thrown away and downloaded anew', async (t) => {
  for (const listedSize of [WEIGHTS.length, null]) {
    const s = await setUp(t, { ...MODEL, 'model.safetensors': { bytes: WEIGHTS, large: true, listedSize } });
    await leavePartial(s, 'model.safetensors', Buffer.alloc(WEIGHTS.length + 1));
    await s.fetchModel();
    assert.equal(ranges(s).at(-1), undefined);
    assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
  }
});

test('wrong bytes are refused and leave no file; the next download starts anew', async (t) => {
  const s = await setUp(t);
  const wrong = Buffer.from(WEIGHTS.subarray(0, 1000));
  wrong[17] = wrong[17]! ^ 1;
  await leavePartial(s, 'model.safetensors', wrong);
  await assert.rejects(
    s.fetchModel(),
    failsWith('checksum_mismatch', /model\.safetensors: expected SHA-256/),
  );
  assert.deepEqual((await readdir(s.target)).sort(), ['config.json', 'tokenizer.json']);
  await s.fetchModel();
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('a small file of another size than listed is refused', async (t) => {
  const s = await setUp(t, {
    ...MODEL,
    'tokenizer.json': { bytes: Buffer.from('{"model":{}}'), listedSize: 5 },
  });
  await assert.rejects(
    s.fetchModel(),
    failsWith('checksum_mismatch', /tokenizer\.json: expected 5 bytes, got 12/),
  );
});

test('a busy server is asked again, later each time, and as late as it says', async (t) => {
  const s = await setUp(t);
  s.hub.listFaults.push({ status: 503 }, { status: 500 }, { status: 429, retryAfter: 7 });
  s.hub.fileFaults.push({ status: 502 });
  await s.fetchModel();
  assert.deepEqual(s.sleeps, [500, 1000, 7000, 500]);
});

test('a server that stays broken is given up with its last answer', async (t) => {
  const s = await setUp(t);
  s.hub.listFaults.push(...Array.from({ length: 5 }, () => ({ status: 503 })));
  await assert.rejects(
    s.fetchModel(),
    failsWith('download_failed', /^model org\/tiny: 127\.0\.0\.1:\d+ answered 503$/),
  );
  assert.deepEqual(s.sleeps, [500, 1000, 2000, 4000]);
});

test('progress between failures keeps a slow download alive beyond the retry limit', async (t) => {
  const s = await setUp(t);
  s.hub.fileFaults.push(
    'ignore-range',
    'ignore-range',
    ...Array.from({ length: 12 }, () => ({ dropAfter: 10 })),
  );
  await s.fetchModel();
  assert.equal(ranges(s).length, 13);
  assert.deepEqual(await readFile(join(s.target, 'model.safetensors')), WEIGHTS);
});

test('refusals say what to do, and are not retried', async (t) => {
  const s = await setUp(t);
  const refusals = [
    [401, 'download_failed', /set HF_TOKEN for a private or gated model/],
    [403, 'download_failed', /accept the terms/],
    [404, 'model_not_found', /check the name and the revision/],
    [418, 'download_failed', /answered 418/],
  ] as const;
  for (const [status, code, pattern] of refusals) {
    s.hub.listFaults.push({ status });
    await assert.rejects(s.fetchModel(), failsWith(code, pattern));
  }
  assert.deepEqual(s.sleeps, []);
});

test('an endpoint that nobody listens on is given up with the reason', async (t) => {
  const s = await setUp(t);
  await s.hub.close();
  await assert.rejects(s.fetchModel(), failsWith('download_failed', /ECONNREFUSED/));
});

test('an answer that is no list of files is refused', async (t) => {
  const s = await setUp(t);
  s.hub.listFaults.push({ status: 200 });
  await assert.rejects(s.fetchModel(), failsWith('download_failed', /not a list of model files/));
});

test('a file name that would leave the directory is refused before anything is written', async (t) => {
  const s = await setUp(t, { ...MODEL, '../../evil.json': { bytes: Buffer.from('x') } });
  await assert.rejects(s.fetchModel(), failsWith('download_failed', /unsafe name/));
  assert.deepEqual(await readdir(s.directory), []);
});

test('one named GGUF file is downloaded alone', async (t) => {
  const s = await setUp(t, { ...MODEL, 'gguf/tiny.Q8_0.gguf': { bytes: WEIGHTS, large: true } });
  const { path } = await s.fetchModel('gguf/tiny.Q8_0.gguf');
  assert.equal(path, join(s.target, 'gguf/tiny.Q8_0.gguf'));
  assert.deepEqual(await readFile(path), WEIGHTS);
  assert.deepEqual(await readdir(s.target), ['gguf']);
});

test('endpoint and token come from the environment', () => {
  const clock: Clock = { now: () => 0, sleep: async () => undefined };
  const hub = hubFromEnvironment({ HF_ENDPOINT: 'http://127.0.0.1:9/mirror', HF_TOKEN: 'x' }, clock);
  assert.equal(hub.endpoint.href, 'http://127.0.0.1:9/mirror');
  assert.equal(hub.token, 'x');
  assert.equal(hubFromEnvironment({ HF_TOKEN: '' }, clock).token, undefined);
  assert.throws(
    () => hubFromEnvironment({ HF_ENDPOINT: 'mirror' }, clock),
    failsWith('invalid_value', /HF_ENDPOINT/),
  );
});
