/** What real clients rely on, over the real service: the tiny chat model behind a port. */
import { after, before } from 'node:test';
import { createApp } from '../../src/api/app.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { testBackend } from '../support/backend.js';
import { conformanceSuite } from './conformance.js';

const { service, statistics } = await testBackend({ after });
let server: RunningServer;
before(async () => {
  const app = createApp({ service, statistics });
  server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000 });
});
after(() => server.close());

const { id: model, contextTokens } = service.model;
conformanceSuite('the tiny chat model', () => ({ baseUrl: server.url, model, contextTokens }));
