/** The dashboard: asks the server every few seconds while the page is visible, and hands the answers to the panels. */
import { ANSWER_TIMEOUT_MS, POLL_EVERY_MS, TREE_EVERY_MS } from '../pace.js';
import { type HistoryStats, type ProcessStats, parseMetrics, type WindowStats } from '../readings.js';
import { Api, ApiError } from './api.js';
import { byId, setText } from './elements.js';
import { EventLog } from './event-log.js';
import { ExplainPanel } from './explain-panel.js';
import { HitPanel, WINDOWS, type Window } from './hit-panel.js';
import { showLives, showOutcomes, showQueue, showThroughput, showTiers } from './load-panel.js';
import { poll } from './polling.js';
import { RecentPanel } from './recent-panel.js';
import { TopPanel } from './top-panel.js';
import { TreePanel } from './tree-panel.js';
import { showFirstTokens } from './ttft-panel.js';

const api = new Api();
const hits = new HitPanel();
const tree = new TreePanel(api);
const explain = new ExplainPanel(api);
const log = new EventLog(api);
const recent = new RecentPanel(api);
const top = new TopPanel(api, () => polling.soon());
const status = byId('status', HTMLElement);
/** When the process started whose model is known: it serves the same one as long as it runs. */
let knownSince = '';
/** The tree when it was last drawn: how large, and when. */
let drawn = { state: '', atMs: Number.NEGATIVE_INFINITY };

function chosenWindow(): Window {
  const chosen = document.querySelector<HTMLInputElement>('input[name=window]:checked')?.value;
  return WINDOWS.find(({ name }) => name === chosen) ?? WINDOWS[0];
}

async function refresh(signal: AbortSignal): Promise<void> {
  try {
    await show(AbortSignal.any([signal, AbortSignal.timeout(ANSWER_TIMEOUT_MS)]));
    status.classList.remove('bad');
    setText(status, 'Live');
  } catch (error) {
    if (signal.aborted) return;
    status.classList.add('bad');
    setText(status, error instanceof ApiError ? error.message : `No answer (${String(error)})`);
  }
}

/** First what always answers, then what needs the statistics over time. */
async function show(signal: AbortSignal): Promise<void> {
  const [stats, metrics] = await Promise.all([
    api.json<ProcessStats>('v1/cache/stats', { signal }),
    api.text('metrics', { signal }),
  ]);
  if (stats.since !== knownSince) await learnModel(signal);
  knownSince = stats.since;
  showTiers(stats);
  showQueue(parseMetrics(metrics));
  followTree(stats);
  await Promise.all([recent.load(signal), top.load(signal)]);
  await showWindow(stats, signal);
}

async function learnModel(signal: AbortSignal): Promise<void> {
  const { data } = await api.json<{ data: readonly { id: string }[] }>('v1/models', { signal });
  const model = data[0]?.id ?? '';
  explain.model = model;
  setText(byId('model', HTMLElement), model);
}

async function showWindow(stats: ProcessStats, signal: AbortSignal): Promise<void> {
  const chosen = chosenWindow();
  const { name, seconds, step } = chosen;
  const from = Math.floor(api.now() / 1000) - seconds;
  const [inWindow, minute, history] = await Promise.all([
    api.json<WindowStats>(`v1/cache/stats?window=${name}`, { signal }),
    api.json<WindowStats>('v1/cache/stats?window=1m', { signal }),
    api.json<HistoryStats>(`v1/cache/stats/history?from=${from}&step=${step}`, { signal }),
  ]);
  hits.show(inWindow, stats.saved_prefill_seconds, history, chosen);
  showFirstTokens(inWindow, history, chosen);
  showLives(stats, inWindow);
  showOutcomes(inWindow, stats);
  showThroughput(minute, api.now());
}

/** Draws the tree again when it has changed, but not under the hands of somebody. */
function followTree({ radix }: ProcessStats): void {
  const state = `${radix.nodes} ${radix.chunks}`;
  if (state === drawn.state || tree.isInUse || Date.now() - drawn.atMs < TREE_EVERY_MS) return;
  drawn = { state, atMs: Date.now() };
  void tree.load();
}

const polling = poll(POLL_EVERY_MS, refresh);
byId('window', HTMLFieldSetElement).addEventListener('change', () => polling.soon());
const key = byId('key', HTMLInputElement);
key.value = api.key;
byId('key-form', HTMLFormElement).addEventListener('submit', (event) => {
  event.preventDefault();
  api.key = key.value.trim();
  drawn = { state: '', atMs: Number.NEGATIVE_INFINITY };
  log.restart();
  polling.soon();
});
