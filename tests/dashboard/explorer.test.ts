/** The explorer in a real browser, over the tiny model. */
import assert from 'node:assert/strict';
import { after, before, suite, test } from 'node:test';
import type { Browser, Page } from 'playwright-core';
import { fuzzedServer } from '../support/fuzzed-server.js';
import { barriers, CHROMIUM, launch, newPage, textOf } from './browser.js';

const KEY = 'sk-explorer';

interface ApiPaths {
  readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>>;
}

async function openExplorer(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/docs`);
  await page.locator('#status', { hasText: 'Version' }).waitFor();
}

/** Opens an operation by keyboard. */
async function openOperation(page: Page, id: string): Promise<void> {
  await page.locator(`#${id} > summary`).press('Enter');
  await page.locator(`#${id} form`).waitFor();
}

suite('the explorer', { skip: CHROMIUM === undefined && 'no Chromium on this machine' }, () => {
  const closing: (() => Promise<unknown>)[] = [];
  let url: string;
  let browser: Browser;

  before(async () => {
    ({ url } = await fuzzedServer({ after: (hook) => closing.push(hook) }));
    browser = await launch();
    closing.push(() => browser.close());
  });

  after(async () => {
    for (const close of closing.toReversed()) await close();
  });

  test('it shows every operation of the document, without complaints of the browser', async (t) => {
    const { page, complaints, asked } = await newPage(t, browser);
    await openExplorer(page, url);
    const document: ApiPaths = JSON.parse(await (await fetch(`${url}/openapi.json`)).text());
    const described = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    assert.deepEqual((await page.locator('.operation h3').allTextContents()).sort(), described.sort());
    await openOperation(page, 'createPin');
    assert.match(await textOf(page, '#createPin'), /ttl_seconds\?: integer \| null {2}\/\/ 1 to 315360000/);
    assert.match(await textOf(page, '#createPin'), /pins_full/);
    assert.deepEqual(complaints, []);
    assert(asked.every((path) => !path.includes('://')));
  });

  test('it sends what the form says, with the key of the tab, and shows what comes', async (t) => {
    const { page, complaints } = await newPage(t, browser);
    await openExplorer(page, url);
    await page.getByLabel('API key').fill(KEY);
    await page.getByLabel('API key').press('Enter');
    await openOperation(page, 'putDocument');
    const sent = page.waitForRequest((request) => request.method() === 'PUT');
    await page.locator('#putDocument').getByRole('button', { name: 'Send' }).click();
    const request = await sent;
    assert.equal(new URL(request.url()).pathname, '/v1/documents/lamp');
    assert.equal(request.headers().authorization, `Bearer ${KEY}`);
    await page.locator('#putDocument .answer', { hasText: '"object": "document"' }).waitFor();
    assert.match(await textOf(page, '#putDocument [role=status]'), /^202 Accepted after \d+ ms$/);
    assert.deepEqual(await page.evaluate('Object.values(sessionStorage)'), [KEY]);
    await openOperation(page, 'listDocuments');
    await page.locator('#listDocuments-limit').fill('0');
    await page.locator('#listDocuments').getByRole('button', { name: 'Send' }).click();
    await page.locator('#listDocuments .answer', { hasText: '"param": "limit"' }).waitFor();
    assert.deepEqual(
      complaints.filter((each) => !each.includes('400')),
      [],
    );
  });

  test('a stream is shown as it comes, until it is stopped', async (t) => {
    const { page } = await newPage(t, browser);
    await page.route('**/v1/chat/completions', async (route) => {
      const body = JSON.stringify({ ...route.request().postDataJSON(), stream: true });
      await route.continue({ postData: body });
    });
    await openExplorer(page, url);
    await openOperation(page, 'createChatCompletion');
    await page.locator('#createChatCompletion').getByRole('button', { name: 'Send' }).click();
    await page.locator('#createChatCompletion .answer', { hasText: 'data: [DONE]' }).waitFor();
    await openOperation(page, 'getMetrics');
    await page.route('**/metrics', () => {});
    await page.locator('#getMetrics').getByRole('button', { name: 'Send' }).click();
    await page.locator('#getMetrics').getByRole('button', { name: 'Stop' }).click();
    await page.locator('#getMetrics [role=status]', { hasText: 'Stopped' }).waitFor();
  });

  for (const colorScheme of ['light', 'dark'] as const) {
    test(`it has no serious or critical barrier in ${colorScheme} mode, with all operations open`, async (t) => {
      const { page } = await newPage(t, browser, { colorScheme });
      await openExplorer(page, url);
      assert.deepEqual(await barriers(page), []);
      await page.evaluate(`document.querySelectorAll('details').forEach((each) => { each.open = true; })`);
      await page.locator('#getStatistics form').waitFor();
      await page.locator('#lookupCache').getByRole('button', { name: 'Send' }).click();
      await page.locator('#lookupCache .answer', { hasText: 'cache.lookup' }).waitFor();
      assert.deepEqual(await barriers(page), []);
    });
  }
});
