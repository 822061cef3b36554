/** The API over the tiny chat model, asked by supertest. */
import assert from 'node:assert/strict';
import type { Express } from 'express';
import supertest from 'supertest';
import { createApp } from '../../src/api/app.js';
import type { Access } from '../../src/api/identity.js';
import type { BackendOptions } from '../../src/server.js';
import { type TestBackend, testBackend } from './backend.js';

export interface Served {
  readonly backend: TestBackend;
  readonly app: Express;
  readonly model: string;
  /** Sends a request as the holder of a key; '' has none. */
  readonly send: (
    method: 'post' | 'get' | 'delete',
    path: string,
    body?: object,
    key?: string,
  ) => Promise<supertest.Response>;
  /** Asks for one token, and waits until all is kept that is. */
  readonly complete: (prompt: string, key?: string, fields?: object) => Promise<supertest.Response>;
  /** Tokens of a prompt that are cached. */
  readonly cached: (prompt: string, key?: string, fields?: object) => Promise<number>;
}

/** Closed after the test. */
export async function served(
  t: { after(hook: () => Promise<void>): void },
  options: Partial<BackendOptions> = {},
  access?: Access,
): Promise<Served> {
  const backend = await testBackend(t, options);
  const { service, statistics, controls } = backend;
  access?.keys.watch(backend.setTenants);
  const app = createApp({ service, statistics, controls, ...(access && { access }) });
  const model = service.model.id;
  const send: Served['send'] = async (method, path, body, key = '') => {
    const sent = supertest(app)[method](path);
    if (key !== '') sent.set('authorization', `Bearer ${key}`);
    return body === undefined ? sent : sent.send(body);
  };
  const complete: Served['complete'] = async (prompt, key, fields) => {
    const answer = await send('post', '/v1/completions', { model, prompt, max_tokens: 1, ...fields }, key);
    assert.equal(answer.status, 200, answer.text);
    await backend.scheduler.idle();
    return answer;
  };
  const cached: Served['cached'] = async (prompt, key, fields) => {
    const { body } = await send('post', '/v1/cache/lookup', { model, prompt, ...fields }, key);
    return body.cached_tokens;
  };
  return { backend, app, model, send, complete, cached };
}
