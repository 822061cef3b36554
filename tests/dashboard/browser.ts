/** Chromium with the dashboard of a server in it. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import type { TestContext } from 'node:test';
import axe from 'axe-core';
import { type Browser, type BrowserContextOptions, chromium, type Page } from 'playwright-core';

const PLACES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** The browser of this machine, or of the variable `CHROMIUM`; undefined where there is none. */
export const CHROMIUM = process.env.CHROMIUM ?? PLACES.find((path) => existsSync(path));

export function launch(): Promise<Browser> {
  assert(CHROMIUM !== undefined);
  return chromium.launch({ executablePath: CHROMIUM, args: ['--disable-gpu', '--no-proxy-server'] });
}

export interface OpenPage {
  readonly page: Page;
  /** What the browser complained of: errors of scripts, of the console, of its policy. */
  readonly complaints: string[];
  /** Paths that were asked for, with their queries. */
  readonly asked: string[];
}

/** A new page in a context of its own, closed after the test; nothing is open in it yet. */
export async function newPage(
  t: TestContext,
  browser: Browser,
  options: BrowserContextOptions = {},
): Promise<OpenPage> {
  const context = await browser.newContext(options);
  t.after(() => context.close());
  const page = await context.newPage();
  const complaints: string[] = [];
  const asked: string[] = [];
  page.on('pageerror', (error) => complaints.push(error.message));
  page.on('console', (message) => {
    if (message.type() === 'error' || message.type() === 'warning') complaints.push(message.text());
  });
  page.on('request', (request) => {
    const { pathname, search } = new URL(request.url());
    asked.push(pathname + search);
  });
  return { page, complaints, asked };
}

/** Waits until the page shows numbers. */
export async function openDashboard(page: Page, url: string): Promise<void> {
  await page.goto(`${url}/dashboard`);
  await page.locator('#status', { hasText: 'Live' }).waitFor();
}

/** The text of the one element that is meant. */
export async function textOf(page: Page, selector: string): Promise<string> {
  return (await page.locator(selector).textContent()) ?? '';
}

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly impact: string; readonly nodes: unknown[] }[];
}

/** What keeps people out of a page, by axe-core. */
export async function barriers(page: Page): Promise<string[]> {
  await page.evaluate(axe.source);
  const { violations } = await page.evaluate<AxeResult>('axe.run()');
  return violations
    .filter(({ impact }) => impact === 'serious' || impact === 'critical')
    .map(({ id, nodes }) => `${id}: ${JSON.stringify(nodes[0])}`);
}
