/** The API around a fake service, for tests. */
import { createApp } from '../../src/api/app.js';
import type { Limits } from '../../src/api/limits.js';
import { type GaugeReading, Statistics } from '../../src/serving/statistics.js';
import { FakeService, type Reply } from './fake-service.js';

export function fakeApp({
  reply,
  limits = {},
  gauges = { tiers: {} },
}: {
  reply?: Reply;
  limits?: Partial<Limits>;
  gauges?: GaugeReading;
} = {}) {
  const service = new FakeService(reply);
  const statistics = new Statistics({ gauges: () => gauges });
  return { service, statistics, app: createApp({ service, statistics, limits }) };
}

/** The events of a server-sent event stream without names, parsed, `[DONE]` as it is. */
// biome-ignore lint/suspicious/noExplicitAny: each test knows the shapes that it asserts
export function sseEvents(body: string): any[] {
  return body
    .split('\n\n')
    .filter((event) => event !== '')
    .map((event) => event.replace(/^data: /, ''))
    .map((data) => (data === '[DONE]' ? data : JSON.parse(data)));
}
