/** The API around a fake service, for tests. */
import { createApp } from '../../src/api/app.js';
import type { Access } from '../../src/api/identity.js';
import type { Limits } from '../../src/api/limits.js';
import { History } from '../../src/history/history.js';
import { type GaugeReading, Statistics } from '../../src/serving/statistics.js';
import { FakeService, type Reply } from './fake-service.js';
import { ManualClock } from './manual-clock.js';

export function fakeApp({
  reply,
  limits = {},
  gauges = { tiers: {} },
  prefillTokensPerS,
  nowMs = Date.now(),
  access,
}: {
  reply?: Reply;
  limits?: Partial<Limits>;
  gauges?: GaugeReading;
  prefillTokensPerS?: number;
  nowMs?: number;
  access?: Access;
} = {}) {
  const service = new FakeService(reply);
  const clock = new ManualClock(nowMs);
  const statistics = new Statistics({ gauges: () => gauges, prefillTokensPerS: () => prefillTokensPerS });
  const history = History.open({ clock });
  statistics.events.on('record', (request, counts) => history.add(request, counts));
  const app = createApp({ service, statistics, history, limits, ...(access && { access }) });
  return { service, statistics, history, clock, app };
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
