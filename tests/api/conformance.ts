/**
 * What real clients rely on, as one suite for any server of this API: the fake service as well as a real model.
 *
 * It asserts no text, only what must hold between answers; prompts are long enough to be reused. The abort test needs
 * an answer that is still running after its third piece of text.
 */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import {
  type Ask,
  aiSdkClient,
  anthropicClient,
  type ConformanceClient,
  type Failure,
  openaiClient,
} from './clients.js';

export interface ConformanceTarget {
  readonly baseUrl: string;
  readonly model: string;
  readonly contextTokens: number;
}

const LONG = 'The quick brown fox jumps over the lazy dog while seven wizards watch from the hill. '.repeat(
  12,
);

async function failureOf(client: ConformanceClient, answer: () => Promise<unknown>): Promise<Failure> {
  try {
    await answer();
  } catch (error) {
    const failure = client.failure(error);
    if (failure === undefined) throw error;
    return failure;
  }
  throw new assert.AssertionError({ message: 'the request was answered' });
}

async function abortedRequests(baseUrl: string): Promise<number> {
  const response = await fetch(`${baseUrl}/v1/cache/stats`);
  const { requests } = JSON.parse(await response.text());
  return requests.aborted;
}

function answers(client: () => ConformanceClient, endpoint: Ask['endpoint']): void {
  const ask: Ask = { endpoint, prompt: LONG, maxTokens: 12 };

  test(`${endpoint}: a streamed answer equals the unstreamed one`, async () => {
    const whole = await client().whole(ask);
    const streamed = await client().streamed(ask);
    assert.equal(streamed.text, whole.text);
    assert.equal(streamed.finishReason, whole.finishReason);
    assert.ok(whole.finishReason === 'length' || whole.finishReason === 'stop');
    assert.equal(streamed.promptTokens, whole.promptTokens);
    assert.equal(streamed.completionTokens, whole.completionTokens);
    assert.ok(whole.completionTokens! <= 12);
  });

  test(`${endpoint}: usage says how much of a repeated prompt was reused, streamed or not`, async () => {
    const fresh = { ...ask, prompt: `${endpoint} ${client().name} ${LONG}` };
    const first = await client().whole(fresh);
    const second = await client().whole(fresh);
    const third = await client().streamed(fresh);
    assert.equal(typeof first.cachedTokens, 'number');
    assert.ok(second.cachedTokens! > first.cachedTokens!);
    assert.ok(second.cachedTokens! < second.promptTokens!);
    assert.ok(third.cachedTokens! > first.cachedTokens!);
    assert.equal(second.text, first.text);
  });

  test(`${endpoint}: an answer stops before its stop string`, async () => {
    const { text } = await client().whole(ask);
    const points = Array.from(text);
    const stop = points
      .slice(Math.floor(points.length / 2))
      .slice(0, 3)
      .join('');
    const expected = text.slice(0, text.indexOf(stop));
    for (const answer of [
      await client().whole({ ...ask, stop }),
      await client().streamed({ ...ask, stop }),
    ]) {
      assert.equal(answer.text, expected);
      assert.equal(answer.finishReason, 'stop');
    }
  });
}

function errors(client: () => ConformanceClient, target: () => ConformanceTarget, badRequest: string): void {
  test('a bad field, an unknown model and an over-long prompt are errors of the right class', async () => {
    const ask: Ask = { endpoint: 'chat', prompt: 'Hello', maxTokens: 4 };
    const cases = [
      [{ ...ask, temperature: 3 }, 400, 'invalid_value', 'temperature'],
      [{ ...ask, model: 'nobody' }, 404, 'model_not_found', 'model'],
      [
        { ...ask, prompt: 'word '.repeat(target().contextTokens + 1) },
        400,
        'context_length_exceeded',
        'messages',
      ],
    ] as const;
    for (const [bad, status, code, param] of cases) {
      const notFound = badRequest === 'BadRequestError' ? 'NotFoundError' : badRequest;
      const className = status === 404 ? notFound : badRequest;
      for (const answer of [() => client().whole(bad), () => client().streamed(bad)]) {
        const failure = await failureOf(client(), answer);
        assert.deepEqual(failure, { status, code, param, retryable: false, className });
      }
    }
  });
}

function aborts(
  client: () => ConformanceClient,
  target: () => ConformanceTarget,
  endpoint: Ask['endpoint'],
): void {
  test(`${endpoint}: a client that aborts in mid-stream ends its request`, { timeout: 60_000 }, async () => {
    const before = await abortedRequests(target().baseUrl);
    const aborter = new AbortController();
    let pieces = 0;
    const answer = client().streamed(
      { endpoint, prompt: 'Count as far as you can.', maxTokens: 1000 },
      aborter.signal,
      () => {
        if (++pieces === 3) aborter.abort();
      },
    );
    await assert.rejects(answer, (error) => client().isAbort(error));
    while ((await abortedRequests(target().baseUrl)) === before);
  });
}

function logprobs(client: () => ConformanceClient): void {
  test('log probabilities come one a token, likeliest first, streamed or not', async () => {
    const ask: Ask = { endpoint: 'chat', prompt: LONG, maxTokens: 6, topLogprobs: 3 };
    const whole = await client().whole(ask);
    const streamed = await client().streamed(ask);
    assert.ok(whole.logprobs.length > 0 && whole.logprobs.length <= whole.completionTokens!);
    assert.deepEqual(
      streamed.logprobs.map(({ token }) => token),
      whole.logprobs.map(({ token }) => token),
    );
    for (const { logprob, top_logprobs } of whole.logprobs) {
      assert.equal(top_logprobs.length, 3);
      assert.ok(logprob <= 0);
      const values = top_logprobs.map((each) => each.logprob);
      assert.deepEqual(
        values,
        values.toSorted((a, b) => b - a),
      );
    }
  });
}

/** Registers the suite; `target` is asked when its tests run. Greedy answers of the server must not vary. */
export function conformanceSuite(name: string, target: () => ConformanceTarget): void {
  const clients = [
    [openaiClient, 'BadRequestError'],
    [aiSdkClient, 'AI_APICallError'],
    [anthropicClient, 'BadRequestError'],
  ] as const;
  for (const [create, badRequest] of clients) {
    const { name: clientName, endpoints } = create('', '');
    suite(`${name}, ${clientName} client`, () => {
      const client = () => create(target().baseUrl, target().model);
      for (const endpoint of endpoints) {
        answers(client, endpoint);
        aborts(client, target, endpoint);
      }
      // Anthropic's format has no log probabilities.
      if (clientName !== 'anthropic') logprobs(client);
      errors(client, target, badRequest);
    });
  }
}
