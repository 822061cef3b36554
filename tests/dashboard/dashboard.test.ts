/** The dashboard in a real browser, over the tiny model. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Browser } from 'playwright-core';
import { LINES_MAX, POLL_EVERY_MS } from '../../dashboard/pace.js';
import type { ProcessStats } from '../../dashboard/readings.js';
import { createApp } from '../../src/api/app.js';
import { type RunningServer, startServer } from '../../src/api/server.js';
import { testBackend } from '../support/backend.js';
import { barriers, CHROMIUM, launch, newPage, openDashboard, textOf } from './browser.js';

const KEY = 'sk-dashboard';
const SYSTEM = 'The lamp of the island burns rape oil, and Ada Brook lights it at dusk.';
const BYTES_MAX = 90_000;

const messages = (user: string) => [
  { role: 'system', content: SYSTEM },
  { role: 'user', content: user },
];

/** As it stands in the stream of events. */
function removal(seq: number): string {
  const data = { seq, ts: 0, type: 'BlockRemoved', block_hashes: [`key${seq}`], medium: 'CPU' };
  return `id: ${seq}\ndata: ${JSON.stringify(data)}\n\n`;
}

suite('the dashboard', { skip: CHROMIUM === undefined && 'no Chromium on this machine' }, () => {
  const closing: (() => Promise<void>)[] = [];
  let server: RunningServer;
  let browser: Browser;
  let model: string;

  async function complete(key: string, user: string): Promise<void> {
    const response = await fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      body: JSON.stringify({ model, messages: messages(user), max_tokens: 4, temperature: 0 }),
    });
    assert.equal(response.status, 200, await response.text());
  }

  async function readStats(): Promise<ProcessStats> {
    const response = await fetch(`${server.url}/v1/cache/stats`);
    return JSON.parse(await response.text());
  }

  before(async () => {
    const backend = await testBackend(
      { after: (hook) => closing.push(hook) },
      { recentRequests: 50, keepExcerpts: true },
    );
    model = backend.service.model.id;
    const { service, statistics, history, controls } = backend;
    const app = createApp({ service, statistics, history, controls });
    const onShutdown = () => controls.events.close();
    server = await startServer({ app, host: '127.0.0.1', port: 0, shutdownTimeoutMs: 1000, onShutdown });
    closing.push(() => server.close());
    browser = await launch();
    closing.push(() => browser.close());
    for (const user of ['Who lights the lamp?', 'Who lights the lamp?', 'What does it burn?'])
      await complete(KEY, user);
  });

  after(async () => {
    for (const close of closing.toReversed()) await close();
  });

  test('it shows the numbers of the server, without complaints of the browser, in at most 90 kB', async (t) => {
    const { page, complaints, asked } = await newPage(t, browser);
    const loaded: Promise<number>[] = [];
    page.on('response', (response) => {
      if (new URL(response.url()).pathname.startsWith('/dashboard'))
        loaded.push(response.body().then(({ length }) => length));
    });
    await openDashboard(page, server.url);
    const stats = await readStats();
    const texts = (selector: string) => page.locator(selector).allTextContents();
    const tiles = await texts('#hit-tiles > div');
    assert(stats.hit_rate !== null && stats.hit_rate > 0);
    assert(tiles.includes(`hit rate${(100 * stats.hit_rate).toFixed(1)} %`), tiles.join(', '));
    assert(tiles.includes(`prompt tokens${stats.prompt_tokens}`), tiles.join(', '));
    assert((await page.locator('#hit-chart rect.fill-device').count()) > 0);
    const [used, budget] = await texts('#tier-rows tr:nth-child(2) td');
    assert.deepEqual(
      [used, budget],
      [`${Number((stats.by_tier.host.bytes! / 1024).toFixed(1))} KiB`, '1 MiB'],
    );
    assert.deepEqual(await texts('#outcome-rows tr:first-child > *'), ['completed', '3', '3']);
    assert((await texts('#queue-tiles > div')).includes('waiting0'));
    assert.deepEqual(await texts('#model'), [model]);
    const sizes = await Promise.all(loaded);
    const bytes = sizes.reduce((sum, size) => sum + size, 0);
    assert(sizes.length > 5 && bytes < BYTES_MAX, `${sizes.length} files, ${bytes} bytes`);
    assert.deepEqual(complaints, []);
    assert(asked.every((path) => !path.includes('://')));
  });

  test('the table has what the chart shows, by the chosen window', async (t) => {
    const { page } = await newPage(t, browser);
    await openDashboard(page, server.url);
    await page.locator('#hit-details summary').press('Enter');
    const tokens = async () => {
      const cells = await page.locator('#hit-rows td:nth-child(2)').allTextContents();
      return cells.reduce((sum, cell) => sum + Number(cell), 0);
    };
    const { prompt_tokens: all } = await readStats();
    assert.equal(await tokens(), all);
    for (const [name, window, step] of [
      ['1 hour', '1h', '1m'],
      ['24 hours', '24h', '30m'],
    ]) {
      const total = page.waitForRequest((request) => request.url().endsWith(`stats?window=${window}`));
      const steps = page.waitForRequest((request) => request.url().endsWith(`&step=${step}`));
      await page.getByLabel(name!).check();
      await Promise.all([total, steps]);
    }
  });

  test('times to the first token are shown with and without hits, and what was evicted by tier', async (t) => {
    const { page } = await newPage(t, browser);
    await openDashboard(page, server.url);
    const { ttft_ms: ttft, by_tier: byTier } = await readStats();
    const cells = (selector: string) => page.locator(selector).allTextContents();
    assert.equal(ttft.none.requests, 1);
    assert.equal(ttft.most.requests + ttft.partial.requests, 2);
    for (const [i, hit] of (['none', 'partial', 'most'] as const).entries()) {
      const [requests, median] = await cells(`#ttft-rows tr:nth-child(${i + 1}) td`);
      const { p50 } = ttft[hit];
      assert.deepEqual([requests, median], [String(ttft[hit].requests), p50 === null ? '–' : `${p50} ms`]);
    }
    assert.equal(await page.locator('#ttft-chart circle.fill-none').count(), 1);
    assert((await page.locator('#ttft-chart circle.fill-device').count()) > 0);
    assert.equal(byTier.host.evicted?.chunks, 0);
    assert.deepEqual(await cells('#life-rows tr:nth-child(1) td'), ['–', '–', '–', '–', '–']);
    assert.deepEqual(await cells('#life-rows tr:nth-child(2) td'), ['0', '–', '–', '0', '0']);
  });

  test('a recent request is opened by keyboard, tells its phases and its miss, and stays open as others come', async (t) => {
    const { page, complaints } = await newPage(t, browser);
    await page.clock.install();
    await openDashboard(page, server.url);
    const lines = page.locator('#recent > li');
    await lines.first().waitFor();
    const shown = await lines.count();
    assert((await lines.first().locator('.spans rect.fill-host').count()) > 0);
    const summary = lines.first().locator('summary');
    await summary.focus();
    await page.keyboard.press('Enter');
    const body = lines.first().locator('details > div');
    await body.getByText(/Phases: queue .*, prefill .*, decode /).waitFor();
    await body.getByText(/other text is cached from here on/).waitFor();
    assert.match((await body.locator('mark').first().textContent()) ?? '', /^at does it burn/);
    assert.match((await body.locator('mark').nth(1).textContent()) ?? '', /^o lights the lamp/);
    await complete(KEY, 'Who lights the lamp?');
    await page.clock.runFor(POLL_EVERY_MS);
    await lines.nth(shown).waitFor();
    assert.equal(await lines.first().locator('details[open]').count(), 0);
    assert.equal(await lines.nth(1).locator('details[open]').count(), 1);
    const focused = "document.activeElement.closest('#recent > li:nth-child(2)') !== null";
    assert.equal(await page.evaluate(focused), true);
    assert.deepEqual(complaints, []);
  });

  test('what spares most is listed by prefix with its text, or by document', async (t) => {
    const { page, complaints } = await newPage(t, browser);
    await openDashboard(page, server.url);
    const rows = page.locator('#top-rows tr');
    await rows.first().waitFor();
    assert.match((await rows.first().textContent()) ?? '', /The lamp of the/);
    const asked = page.waitForResponse((response) => response.url().includes('by=document'));
    await page.getByLabel('document', { exact: true }).check();
    await asked;
    await page.locator('#top-what', { hasText: 'Document' }).waitFor();
    assert.equal(await rows.count(), 0);
    assert.deepEqual(complaints, []);
  });

  test('the tree of a key is walked, opened and closed by keyboard, with the text of the node', async (t) => {
    const { page, complaints } = await newPage(t, browser);
    await openDashboard(page, server.url);
    assert.match(await textOf(page, '#node-title'), /Nothing is cached/);
    await page.getByLabel('API key').fill(KEY);
    await page.getByLabel('API key').press('Enter');
    const items = page.getByRole('treeitem');
    await items.first().waitFor();
    assert.equal(await items.count(), 1);
    const expanded = () => items.first().getAttribute('aria-expanded');
    await items.first().focus();
    await page.keyboard.press('ArrowRight');
    await items.nth(2).waitFor();
    assert.equal(await expanded(), 'true');
    assert.match(await textOf(page, '#node-text'), /island/);
    await page.keyboard.press('ArrowRight');
    const below = await textOf(page, '#node-text');
    assert.doesNotMatch(below, /island/);
    const widthOf = (index: number) => items.nth(index).locator('.frame').getAttribute('width');
    const narrow = Number(await widthOf(1));
    await page.keyboard.press('Enter');
    assert(Number(await widthOf(1)) > narrow);
    await page.keyboard.press('Escape');
    assert.equal(Number(await widthOf(1)), narrow);
    await page.keyboard.press('ArrowLeft');
    await page.keyboard.press('ArrowLeft');
    assert.equal(await expanded(), 'false');
    assert.equal(await items.count(), 1);
    assert.deepEqual(complaints, []);
  });

  test('the key is sent as a bearer, kept for the tab, and for nobody else', async (t) => {
    const { page } = await newPage(t, browser);
    await openDashboard(page, server.url);
    const request = page.waitForRequest((each) => each.url().endsWith('/v1/cache/stats'));
    await page.getByLabel('API key').fill(KEY);
    await page.getByRole('button', { name: 'Use key' }).click();
    assert.equal((await request).headers().authorization, `Bearer ${KEY}`);
    const kept = () => page.evaluate('[...Object.values(sessionStorage), ...Object.values(localStorage)]');
    assert.deepEqual(await kept(), [KEY]);
    await page.reload();
    assert.equal(await page.getByLabel('API key').inputValue(), KEY);
    await page.getByLabel('API key').fill('');
    await page.getByRole('button', { name: 'Use key' }).click();
    assert.deepEqual(await kept(), []);
  });

  test('a pasted prompt is explained beside what is cached, and what is no prompt is refused in words', async (t) => {
    const { page, complaints } = await newPage(t, browser);
    await openDashboard(page, server.url);
    await page.getByLabel('API key').fill(KEY);
    await page.getByLabel('API key').press('Enter');
    const explain = page.getByRole('button', { name: 'Explain' });
    await page.getByLabel('Messages, or the body').fill(JSON.stringify(messages('Who rings the bell?')));
    await explain.click();
    await page.getByRole('heading', { name: 'What is cached' }).waitFor();
    assert.match(await textOf(page, '#explain-result'), /in message 1 \(user\): other text/);
    assert.match(await textOf(page, '#prompt-side mark'), /^rings the bell/);
    assert.match(await textOf(page, '#cached-side mark'), /^lights the lamp/);
    await page.getByLabel('Messages, or the body').fill('{"prompt": 1}');
    const refused = page.waitForResponse((response) => response.url().endsWith('/explain'));
    await explain.click();
    await refused;
    await page.locator('#explain-result', { hasText: 'prompt' }).waitFor();
    assert(await page.locator('#sides').isHidden());
    await page.getByLabel('Messages, or the body').fill('[');
    await explain.click();
    await page.locator('#explain-result', { hasText: 'JSON' }).waitFor();
    assert.deepEqual(
      complaints.filter((each) => !each.includes('400')),
      [],
    );
  });

  test('a hidden page asks for nothing, and goes on when it is seen again', async (t) => {
    const { page, asked } = await newPage(t, browser);
    await page.clock.install();
    await openDashboard(page, server.url);
    const polls = () => asked.filter((path) => path === '/v1/cache/stats').length;
    const shown = (state: string) =>
      page.evaluate(`Object.defineProperty(document, 'visibilityState', { value: '${state}', configurable: true });
        document.dispatchEvent(new Event('visibilitychange'))`);
    const poll = () => page.waitForResponse((response) => response.url().includes('history'));
    let next = poll();
    await page.clock.runFor(POLL_EVERY_MS);
    await next;
    assert.equal(polls(), 2);
    await shown('hidden');
    const seen = asked.length;
    await page.clock.runFor(60_000);
    assert.deepEqual(asked.slice(seen), []);
    next = poll();
    await shown('visible');
    await next;
    assert.equal(polls(), 3);
    assert(asked.slice(seen).some((path) => path.startsWith('/v1/cache/events')));
  });

  test('the log shows events as they come, not while it is paused, and then what was missed', async (t) => {
    const { page } = await newPage(t, browser);
    const stream = () => page.waitForResponse((response) => response.url().includes('/v1/cache/events'));
    let opened = stream();
    await openDashboard(page, server.url);
    await opened;
    opened = stream();
    await page.getByLabel('API key').fill('sk-log');
    await page.getByLabel('API key').press('Enter');
    await opened;
    const lines = page.locator('#log li');
    await complete('sk-log', 'First, and long enough for a chunk of its own.');
    await lines
      .filter({ hasText: /BlockStored {2}CPU {2}computed/ })
      .first()
      .waitFor();
    await page.getByRole('button', { name: 'Pause' }).click();
    const count = await lines.count();
    await complete('sk-log', 'Second, and long enough for another chunk of its own.');
    assert.equal(await lines.count(), count);
    await page.getByRole('button', { name: 'Pause' }).click();
    await lines.nth(count).waitFor();
  });

  test('it says when the server does not answer, or refuses, and when it does again', async (t) => {
    const { page } = await newPage(t, browser);
    await page.clock.install();
    await openDashboard(page, server.url);
    await page.route('**/v1/cache/stats', (route) => route.abort());
    await page.clock.runFor(POLL_EVERY_MS);
    await page.locator('#status', { hasText: 'No answer' }).waitFor();
    const json = { error: { code: 'unauthorized', message: 'Who are you?' } };
    await page.unroute('**/v1/cache/stats');
    await page.route('**/v1/cache/stats', (route) => route.fulfill({ status: 401, json }));
    await page.clock.runFor(POLL_EVERY_MS);
    await page.locator('#status.bad', { hasText: 'Who are you?' }).waitFor();
    await page.unroute('**/v1/cache/stats');
    await page.clock.runFor(POLL_EVERY_MS);
    await page.locator('#status', { hasText: 'Live' }).waitFor();
  });

  test('of a flood of events the last ones stay', async (t) => {
    const { page } = await newPage(t, browser);
    const body = Array.from({ length: LINES_MAX + 50 }, (_, i) => removal(i)).join('');
    await page.route('**/v1/cache/events', (route) =>
      route.fulfill({ headers: { 'content-type': 'text/event-stream' }, body }),
    );
    await openDashboard(page, server.url);
    const lines = page.locator('#log li');
    await lines.filter({ hasText: `key${LINES_MAX + 49}` }).waitFor();
    assert.equal(await lines.count(), LINES_MAX);
    assert.match((await lines.last().textContent()) ?? '', /key50$/);
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`it has no serious or critical barrier in ${colorScheme} mode, empty and with everything open`, async (t) => {
      const { page } = await newPage(t, browser, { colorScheme });
      await openDashboard(page, server.url);
      assert.deepEqual(await barriers(page), []);
      await page.getByLabel('API key').fill(KEY);
      await page.getByLabel('API key').press('Enter');
      await page.getByRole('treeitem').first().press('ArrowRight');
      await page.getByRole('treeitem').nth(2).waitFor();
      await page.locator('#hit-details summary').click();
      await page.locator('#recent summary').last().click();
      await page.locator('#recent mark').first().waitFor();
      await page.getByLabel('Messages, or the body').fill(JSON.stringify(messages('Who rings the bell?')));
      await page.getByRole('button', { name: 'Explain' }).click();
      await page.getByRole('heading', { name: 'What is cached' }).waitFor();
      assert.deepEqual(await barriers(page), []);
    });
  }
});
