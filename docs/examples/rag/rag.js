/**
 * Retrieval-augmented answers over a small corpus, with and without blending: MiniSearch finds passages, the AI SDK
 * asks radixkv about them, and the times to the first token are compared.
 *
 *   node docs/examples/rag/rag.js [--url http://127.0.0.1:8080] [--questions 10] [--passages 8] [--ratio 0.15]
 *
 * Each way has an API key of its own, new in each run: KV is never shared between keys, so neither way profits from
 * the other, nor from an earlier run.
 */
import { randomUUID } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { generateText } from 'ai';
import MiniSearch from 'minisearch';

const { values } = parseArgs({
  options: {
    url: { type: 'string', default: 'http://127.0.0.1:8080' },
    questions: { type: 'string', default: '10' },
    passages: { type: 'string', default: '8' },
    ratio: { type: 'string' },
  },
});
const keys = { exact: `exact-${randomUUID()}`, blend: `blend-${randomUUID()}` };

/** The objects of a JSONL file beside this one. */
async function readLines(name) {
  const text = await readFile(new URL(name, import.meta.url), 'utf8');
  return text.trim().split('\n').map(JSON.parse);
}

async function call(path, init = {}) {
  const headers = { authorization: `Bearer ${keys.blend}`, ...init.headers };
  const response = await fetch(`${values.url}${path}`, { ...init, headers });
  if (!response.ok) throw new Error(`${path}: ${await response.text()}`);
  return response.json();
}

/** Stores the corpus, and waits until the KV of all passages is computed. */
async function storeDocuments(corpus) {
  await call('/v1/documents/batch', {
    method: 'POST',
    headers: { 'content-type': 'application/x-ndjson' },
    body: corpus.map((passage) => JSON.stringify({ ...passage, ttl_seconds: 3600 })).join('\n'),
  });
  for (;;) {
    const { data } = await call('/v1/documents?limit=100');
    const failed = data.find(({ status }) => status === 'failed');
    if (failed !== undefined) throw new Error(`${failed.id}: ${JSON.stringify(failed.error)}`);
    if (data.every(({ status }) => status === 'ready')) return;
    await sleep(100);
  }
}

/** A model of the AI SDK whose answers keep radixkv's own fields. */
async function connect(key) {
  const provider = createOpenAICompatible({
    name: 'radixkv',
    baseURL: `${values.url}/v1`,
    apiKey: key,
    metadataExtractor: {
      extractMetadata: async ({ parsedBody: { usage, timings } }) => ({ radixkv: { usage, timings } }),
      createStreamExtractor: () => ({ processChunk() {}, buildMetadata: () => undefined }),
    },
  });
  const { data } = await call('/v1/models');
  return provider(data[0].id);
}

/** Asks, with fields that OpenAI's format lacks beside those it has. */
async function ask(model, question, { documents, cache }) {
  const { text, providerMetadata } = await generateText({
    model,
    prompt: `Answer the question from the texts above, in a few words.\n\nQuestion: ${question}`,
    temperature: 0,
    maxOutputTokens: 24,
    providerOptions: { radixkv: { documents, cache } },
  });
  const { usage, timings } = providerMetadata.radixkv;
  const { cached_tokens: cached, blended_tokens: blended } = usage.prompt_tokens_details;
  const computed = usage.prompt_tokens - cached - blended;
  return { text: text.trim().replaceAll(/\s+/g, ' '), ttftMs: timings.ttft_ms, cached, blended, computed };
}

function show(mode, { text, ttftMs, cached, blended, computed }) {
  const tokens = `cached ${cached}, blended ${blended}, computed ${computed}`;
  console.log(`   ${mode}: first token after ${ttftMs.toFixed(0)} ms (${tokens}): ${text}`);
}

function median(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

const corpus = await readLines('corpus.jsonl');
const questions = (await readLines('questions.jsonl')).slice(0, Number(values.questions));
const index = new MiniSearch({ fields: ['title', 'text'], searchOptions: { boost: { title: 2 } } });
index.addAll(corpus);

const startedAt = performance.now();
await storeDocuments(corpus);
console.log(`${corpus.length} passages stored in ${((performance.now() - startedAt) / 1000).toFixed(1)} s\n`);

const models = { exact: await connect(keys.exact), blend: await connect(keys.blend) };
const ratio = values.ratio === undefined ? {} : { recompute_ratio: Number(values.ratio) };
const ttftMs = { exact: [], blend: [] };
for (const [i, { question, answer }] of questions.entries()) {
  console.log(`${i + 1}. ${question} (${answer})`);
  const found = index.search(question).slice(0, Number(values.passages));
  // Whole passages, which only this prompt knows; and ids of those stored before.
  const passages = found.map(({ id }) => corpus.find((passage) => passage.id === id));
  const ways = {
    exact: { documents: passages, cache: { mode: 'exact' } },
    blend: { documents: found.map(({ id }) => ({ id })), cache: { mode: 'blend', ...ratio } },
  };
  for (const [mode, way] of Object.entries(ways)) {
    const result = await ask(models[mode], question, way);
    ttftMs[mode].push(result.ttftMs);
    show(mode, result);
  }
}
const [exact, blend] = [median(ttftMs.exact), median(ttftMs.blend)];
console.log(
  `\nmedian time to the first token: exact ${exact.toFixed(0)} ms, blend ${blend.toFixed(0)} ms, ${(exact / blend).toFixed(1)} times faster`,
);
