/** The Grafana dashboard and the alert rules: that Prometheus can read every query, and that a server answers it. */
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after as afterAll, before, test } from 'node:test';
import { parser } from '@prometheus-io/lezer-promql';
import supertest from 'supertest';
import { parse } from 'yaml';
import { z } from 'zod';
import { RedisServer, until } from '../../bench/redis-server.js';
import { createApp } from '../../src/api/app.js';
import { request, TINY_CHUNK_BYTES, TINY_TOKEN_BYTES, testBackend } from '../support/backend.js';
import { HAS_REDIS, redisTest } from '../support/redis-test.js';
import { remoteAt, remoteOf } from '../support/remote-backend.js';

const TARGET = z.object({ refId: z.string(), expr: z.string(), datasource: z.object({ uid: z.string() }) });
const GRID = z.object({ x: z.number(), y: z.number(), w: z.number(), h: z.number() });
const DASHBOARD = z.object({
  uid: z.string(),
  title: z.string(),
  schemaVersion: z.number().min(39),
  templating: z.object({
    list: z.array(z.object({ name: z.string(), type: z.string(), definition: z.string().optional() })),
  }),
  panels: z.array(
    z.object({
      id: z.number(),
      type: z.enum(['row', 'timeseries', 'stat']),
      title: z.string().min(1),
      gridPos: GRID,
      targets: z.array(TARGET).default([]),
    }),
  ),
});
const ALERTS = z.object({
  groups: z.array(
    z.object({
      name: z.string(),
      rules: z.array(
        z.strictObject({
          alert: z.string().regex(/^Radixkv\w+$/),
          expr: z.string(),
          for: z
            .string()
            .regex(/^\d+m$/)
            .optional(),
          labels: z.strictObject({ severity: z.enum(['critical', 'warning', 'info']) }),
          annotations: z.strictObject({ summary: z.string(), description: z.string() }),
        }),
      ),
    }),
  ),
});

/** Labels that Prometheus adds to what it scrapes, and the one metric that it makes itself. */
const SCRAPE_LABELS = ['instance', 'job'];
const SCRAPE_METRICS = ['up'];

interface Metric {
  /** Of each label the values of all samples; empty where there are none. */
  readonly labels: Map<string, Set<string>>;
}

let metrics: Map<string, Metric>;

/** Metrics of a server that has evicted from memory, used its disk and its remote tier, been traced and refused. */
before(async () => {
  if (!HAS_REDIS) return;
  const hooks: (() => unknown)[] = [];
  const t = { after: (hook: () => unknown) => hooks.push(hook) };
  const directory = await mkdtemp(join(tmpdir(), 'radixkv-monitoring-'));
  const redis = await RedisServer.start(t);
  const backend = await testBackend(t, {
    deviceBytes: 512 * TINY_TOKEN_BYTES,
    hostBytes: 16 * TINY_CHUNK_BYTES,
    disk: { directory, capacityBytes: 2 ** 26, freeBytesMin: 0, codec: 'auto' },
    remoteTier: remoteAt(redis.url),
    tracing: {
      begin: () => assert.fail('no request is traced here'),
      reading: () => ({ spans: { sent: 0, dropped: 0, failed: 0 } }),
      close: async () => {},
    },
  });
  t.after(() => rm(directory, { recursive: true, force: true }));
  const { service, statistics } = backend;
  // As if it had a GPU.
  const bus = { controlUp: 1, kvUp: 2, kvDown: 3, logitsDown: 4, measuresDown: 5 };
  const read = statistics.gauges.bind(statistics);
  statistics.gauges = () => ({ ...read(), bus });
  const app = createApp({ service, statistics });
  for (const letter of 'abcd') {
    const events = service.complete(request({ prompt: letter.repeat(200), maxTokens: 1 }));
    for await (const event of events) assert(event.type !== 'end' || event.usage.promptTokens === 200);
  }
  await supertest(app).get('/v1/models/none').expect(404);
  await until(() => remoteOf(backend).writes.stored! > 0, 'something is written');
  metrics = metricsOf((await supertest(app).get('/metrics').expect(200)).text);
  afterAll(async () => {
    for (const hook of hooks) await hook();
  });
});

function metricsOf(text: string): Map<string, Metric> {
  const found = new Map<string, Metric>();
  const metric = (name: string) => {
    const known = found.get(name) ?? { labels: new Map<string, Set<string>>() };
    found.set(name, known);
    return known;
  };
  for (const [, name, type] of text.matchAll(/^# TYPE (\w+) (\w+)$/gm)) {
    metric(name!);
    if (type === 'histogram') for (const suffix of ['bucket', 'sum', 'count']) metric(`${name}_${suffix}`);
  }
  for (const [, name, labels] of text.matchAll(/^(\w+)\{(.*)\} \S+$/gm)) {
    for (const [, label, value] of labels!.matchAll(/(\w+)="([^"]*)"/g)) {
      const values = metric(name!).labels.get(label!) ?? new Set();
      metric(name!).labels.set(label!, values.add(value!));
    }
  }
  return found;
}

/** What a query asks for: metrics, and of each the labels that it compares. */
function selectorsOf(query: string) {
  const selectors: { name: string; matchers: { label: string; op: string; value: string }[] }[] = [];
  const groupedBy: string[] = [];
  parser.parse(query).iterate({
    enter({ type, name, from, to, node }) {
      const text = query.slice(from, to);
      assert(!type.isError, `${query}: wrong at ${from}`);
      if (name === 'VectorSelector')
        selectors.push({ name: query.slice(node.firstChild!.from, node.firstChild!.to), matchers: [] });
      if (name === 'LabelName' && node.parent?.name === 'GroupingLabels') groupedBy.push(text);
      if (name === 'UnquotedLabelMatcher') {
        const [label, op, value] = [node.firstChild!, node.firstChild!.nextSibling!, node.lastChild!].map(
          (part) => query.slice(part.from, part.to),
        );
        selectors.at(-1)!.matchers.push({ label: label!, op: op!, value: value!.slice(1, -1) });
      }
    },
  });
  return { selectors, groupedBy };
}

/** @throws AssertionError when Prometheus can't read it, or a server has no such metric, label or value */
function checkQuery(query: string): void {
  const { selectors, groupedBy } = selectorsOf(query);
  assert(selectors.length > 0, query);
  for (const { name, matchers } of selectors) {
    if (SCRAPE_METRICS.includes(name)) continue;
    const metric = metrics.get(name);
    assert(metric !== undefined, `${query}: there is no metric ${name}`);
    for (const { label, op, value } of matchers) {
      if (SCRAPE_LABELS.includes(label)) continue;
      const values = metric.labels.get(label);
      assert(values !== undefined, `${query}: ${name} has no label ${label}`);
      const wanted = op.endsWith('~') ? value.split('|') : [value];
      for (const each of wanted) assert(values.has(each), `${query}: ${label} is never "${each}"`);
    }
    for (const label of groupedBy) {
      const isThere = SCRAPE_LABELS.includes(label) || label === 'le' || metric.labels.has(label);
      assert(isThere, `${query}: ${name} has no label ${label}`);
    }
  }
}

redisTest('every query of the Grafana dashboard can be read and has an answer', async () => {
  const dashboard = DASHBOARD.parse(JSON.parse(await readFile('docker/grafana/radixkv.json', 'utf8')));
  const { list } = dashboard.templating;
  assert.deepEqual(
    list.map(({ name, type }) => [name, type]),
    [
      ['datasource', 'datasource'],
      ['instance', 'query'],
    ],
  );
  assert(metrics.has(/^label_values\((\w+), instance\)$/.exec(list[1]!.definition!)![1]!));
  for (const { type, title, targets } of dashboard.panels) {
    assert.equal(targets.length > 0, type !== 'row', title);
    for (const { expr, datasource } of targets) {
      assert.equal(datasource.uid, `\${datasource}`);
      checkQuery(
        expr.replaceAll('$__rate_interval', '5m').replaceAll('$__range', '1h').replaceAll('$instance', '.*'),
      );
    }
  }
});

test('no panels of the dashboard overlap, and ids are unique', async () => {
  const { panels } = DASHBOARD.parse(JSON.parse(await readFile('docker/grafana/radixkv.json', 'utf8')));
  assert.equal(new Set(panels.map(({ id }) => id)).size, panels.length);
  const taken = new Set<string>();
  for (const { title, gridPos: at } of panels) {
    assert(at.x + at.w <= 24, title);
    for (let x = at.x; x < at.x + at.w; x++) {
      for (let y = at.y; y < at.y + at.h; y++) {
        assert(!taken.has(`${x} ${y}`), `${title} overlaps`);
        taken.add(`${x} ${y}`);
      }
    }
  }
});

redisTest('every metric of the server has its place on the dashboard', async () => {
  const text = await readFile('docker/grafana/radixkv.json', 'utf8');
  const isPart = (name: string) =>
    /_(bucket|sum|count)$/.test(name) && metrics.has(name.replace(/_[a-z]+$/, ''));
  const ours = [...metrics.keys()].filter((name) => name.startsWith('radixkv_') && !isPart(name));
  assert.deepEqual(
    ours.filter((name) => !text.includes(name)),
    [],
  );
});

redisTest('every alert has a query that can be read and answered, and is in docs/operating.md', async () => {
  const { groups } = ALERTS.parse(parse(await readFile('docker/prometheus/alerts.yml', 'utf8')));
  const rules = groups.flatMap((group) => group.rules);
  const [, section] = (await readFile('docs/operating.md', 'utf8')).split('## Metrics\n');
  for (const { alert, expr, annotations } of rules) {
    checkQuery(expr);
    assert(section!.split('\n## ')[0]!.includes(`\`${alert}\``), alert);
    for (const [name] of `${annotations.summary} ${annotations.description}`.matchAll(/radixkv_\w+/g))
      assert(metrics.has(name), name);
  }
  assert.equal(new Set(rules.map(({ alert }) => alert)).size, rules.length);
});

redisTest('a query that is wrong is found', async () => {
  checkQuery('sum by (tier) (radixkv_tier_bytes)');
  for (const [query, message] of [
    ['sum(rate(radixkv_requests_total[5m])', /wrong at/],
    ['radixkv_request_total', /no metric radixkv_request_total/],
    ['radixkv_requests_total{result="failed"}', /no label result/],
    ['radixkv_requests_total{outcome="broken"}', /outcome is never "broken"/],
    ['sum by (tier) (radixkv_requests_total)', /no label tier/],
  ] as const)
    assert.throws(() => checkQuery(query), { message }, query);
});
