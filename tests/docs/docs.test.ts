import assert from 'node:assert/strict';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { test } from 'node:test';
import { SELECTORS } from '#blend';
import { PAGE } from '#dashboard';
import { LINES_MAX, NODES_MAX, POLL_EVERY_MS, REQUESTS_MAX, TREE_EVERY_MS } from '../../dashboard/pace.js';
import { cacheControl } from '../../src/api/cache-schema.js';
import { chatBody, chatSchema } from '../../src/api/chat-schema.js';
import { documentJson } from '../../src/api/document-routes.js';
import { passageFields, storedDocument } from '../../src/api/document-schema.js';
import { explanationJson } from '../../src/api/explanation.js';
import { DEFAULT_LIMITS } from '../../src/api/limits.js';
import { createMessagesDialect } from '../../src/api/messages-dialect.js';
import { messagesSchema } from '../../src/api/messages-schema.js';
import { DEFAULT_TIMEOUTS } from '../../src/api/server.js';
import { countsJson } from '../../src/api/statistics-routes.js';
import { textSchema } from '../../src/api/text-schema.js';
import { timingsJson } from '../../src/api/usage.js';
import { GHOSTS_MAX } from '../../src/cache/chunk-lives.js';
import { BUILT_IN_PROFILES } from '../../src/calibration/built-in-profiles.js';
import { RATIOS } from '../../src/calibration/calibrate.js';
import { profilePlot } from '../../src/calibration/plot.js';
import { profileLines } from '../../src/cli/calibrate.js';
import { CONFIG_FLAGS } from '../../src/cli/flags.js';
import { createProgram } from '../../src/cli/program.js';
import { createTerminal } from '../../src/cli/terminal.js';
import { type OptionRow, parseServeOptions, SERVE_OPTION_ROWS } from '../../src/config/options.js';
import type { DocumentReading } from '../../src/documents/document.js';
import { DEFAULT_LIBRARY_LIMITS } from '../../src/documents/library.js';
import { DEFAULT_TABLE_LIMITS, DIMENSIONS } from '../../src/history/count-table.js';
import { History, WRITE_EVERY_MS } from '../../src/history/history.js';
import { ROWS_MAX } from '../../src/history/pending-counts.js';
import { bucketsMax, POINTS_MAX, WINDOW_NAMES } from '../../src/history/resolutions.js';
import { systemClock } from '../../src/model/clock.js';
import { type BlendExplanation, CACHE_MODES, NO_TOKENS } from '../../src/serving/completion.js';
import { HIT_CLASSES, noCounts, OUTCOMES } from '../../src/serving/counts.js';
import { PHASES } from '../../src/serving/course.js';
import { createMetrics } from '../../src/serving/metrics.js';
import { SHOWN_AFTER_TOKENS, SHOWN_BEFORE_TOKENS } from '../../src/serving/miss.js';
import { SAVERS_MAX } from '../../src/serving/savings.js';
import { ENDPOINTS, Statistics } from '../../src/serving/statistics.js';

const read = (path: string): string => readFileSync(path, 'utf8');

/** What a blended answer reports. */
const BLENDED = {
  usage: {
    promptTokens: 0,
    completionTokens: 0,
    cachedTokens: NO_TOKENS,
    blendedTokens: NO_TOKENS,
    computedTokens: 0,
  },
  timings: {
    queueMs: 0,
    loadMs: 0,
    prefillMs: 0,
    blend: { prepareMs: 0, loadMs: 0, rotateMs: 0, selectMs: 0, recomputeMs: 0 },
    decodeMs: 0,
    ttftMs: 0,
  },
  explanation: {
    outcome: 'blended',
    selector: 'heads',
    ratio: 0,
    prefixTokens: 0,
    documents: [],
    recomputed: [],
  } satisfies BlendExplanation,
};

/** Defaults that depend on the machine, in words. */
const DEFAULTS_IN_WORDS: Partial<Record<OptionRow['key'], string>> = {
  dataDir: '`~/.local/share/radixkv`',
  threads: 'physical cores',
};

function optionLine(row: OptionRow): string {
  const [, description, inDescription] = /^(.*?)(?: \(default: (.*)\))?$/.exec(row.description)!;
  const value = DEFAULTS_IN_WORDS[row.key] ?? `\`${row.defaultText?.() ?? inDescription}\``;
  return `| \`${row.flags}\` | \`${row.environment}\` | ${value} | ${description} |`;
}

test("the README's table of options is the one of the command line", () => {
  const lines = read('README.md').split('\n');
  assert.deepEqual(
    lines.filter((line) => line.startsWith('| `--')),
    SERVE_OPTION_ROWS.map(optionLine),
  );
});

test('docs/operating.md has every field that is logged', () => {
  const [, section] = read('docs/operating.md').split('## Logs\n');
  const documented = [...section!.split('\n## ')[0]!.matchAll(/^\| (.*?) \| /gm)].map(
    ([, fields]) => fields!,
  );
  const sources = readdirSync('src', { recursive: true, encoding: 'utf8' }).filter((name) =>
    name.endsWith('.ts'),
  );
  const fields = sources.flatMap((name) => {
    const calls = read(`src/${name}`).matchAll(/ogger\??\.(?:info|warn|error)\(\{ (.*) \}, '/g);
    return [...calls].flatMap(([, object]) => object!.split(', ').map((field) => field.split(':')[0]!));
  });
  assert(fields.length > 10);
  assert.deepEqual(
    [...new Set(fields)].filter((field) => !documented.some((each) => each.includes(`\`${field}`))),
    [],
  );
});

test("the README's table of commands has every command", () => {
  const program = createProgram(createTerminal(process.stdout, process.stderr, systemClock));
  const names = program.commands.flatMap((command) => {
    const own = command.name();
    return command.commands.length === 0 ? [own] : command.commands.map((below) => `${own} ${below.name()}`);
  });
  const text = read('README.md');
  assert.deepEqual(
    names.filter((name) => !text.includes(`\`radixkv ${name}`)),
    [],
  );
});

test('docs/operating.md has the time limits of clients', () => {
  const { headersMs, requestMs, keepAliveMs } = DEFAULT_TIMEOUTS;
  const text = read('docs/operating.md');
  assert(text.includes(`A client has ${headersMs / 1000} s from the connection`));
  assert(text.includes(`and ${requestMs / 1000} s to the end of its body`));
  assert(text.includes(`${keepAliveMs / 1000} s between two requests`));
});

test('docs/api.md has the longest stop string', () => {
  const { stopCharactersMax, stopStringsMax } = DEFAULT_LIMITS;
  const limits = `string of 1 to ${stopCharactersMax.toLocaleString('en')} characters, or up to ${stopStringsMax}`;
  assert(read('docs/api.md').includes(limits), limits);
});

test("the README's table of commands has each with its own options", () => {
  const program = createProgram(createTerminal(process.stdout, process.stderr, systemClock));
  const serving = new Set([CONFIG_FLAGS, ...SERVE_OPTION_ROWS.map(({ flags }) => flags)]);
  const lines = read('README.md').split('\n');
  assert(lines.some((line) => line.includes(`takes \`${CONFIG_FLAGS}\` too`)));
  for (const command of program.commands.flatMap((each) => [each, ...each.commands])) {
    const name = [command.parent === program ? [] : command.parent!.name(), command.name()].flat().join(' ');
    const line = lines.find((each) => each.startsWith('|') && each.includes(`\`radixkv ${name}`));
    for (const { flags, long } of command.options)
      assert(serving.has(flags) || line?.includes(long!), `${name} ${long}`);
  }
});

test('docs/operating.md has every panel of the dashboard, and its picture is small', () => {
  const text = read('docs/operating.md');
  const panels = [...PAGE.matchAll(/<h2[^>]*>([^<]*)<\/h2>/g)].map(([, title]) => title!);
  const [, section] = text.split('## Dashboard\n');
  const rows = [...section!.split('\n## ')[0]!.matchAll(/^\| ([^|]*) \| /gm)].map(([, panel]) => panel!);
  assert.deepEqual(rows, ['panel', ...panels]);
  for (const claim of [
    `at most the ${NODES_MAX} largest`,
    `the last ${LINES_MAX}`,
    `the last ${REQUESTS_MAX} that ended`,
    `asks every ${POLL_EVERY_MS / 1000} s while`,
    `every ${TREE_EVERY_MS / 1000} s at most`,
  ])
    assert(section!.includes(claim), claim);
  assert(statSync('docs/dashboard.webp').size < 150_000);
});

test('docs/operating.md and the registry list the same metrics', async () => {
  const statistics = new Statistics({ gauges: () => ({ tiers: {} }) });
  const text = await createMetrics(statistics).scrape();
  const registered = [...text.matchAll(/^# TYPE (radixkv_\w+) (\w+)$/gm)].map(
    ([, name, type]) => `${name} ${type}`,
  );
  const lines = [...read('docs/operating.md').matchAll(/^\| `(radixkv_\w+)` \| (\w+) \| /gm)];
  assert.deepEqual(lines.map(([, name, type]) => `${name} ${type}`).sort(), registered.sort());
});

test('docs/api.md names every field of the completion endpoints', () => {
  const text = read('docs/api.md');
  const fields = [
    ...Object.keys(chatSchema(DEFAULT_LIMITS).shape),
    ...Object.keys(textSchema(DEFAULT_LIMITS).shape),
    ...Object.keys(messagesSchema(DEFAULT_LIMITS).shape),
  ];
  assert.deepEqual(
    fields.filter((field) => !text.includes(`\`${field}\``)),
    [],
  );
});

test('docs/api.md names every mode, selector, limit and detail of documents and cache control', () => {
  const text = read('docs/api.md');
  const words = [
    ...Object.keys(SELECTORS),
    ...CACHE_MODES,
    ...Object.keys(cacheControl.shape),
    ...Object.keys(passageFields(DEFAULT_LIMITS)),
    'ttl_seconds',
    'pinned',
    ...Object.keys(timingsJson(BLENDED.usage, BLENDED.timings, 1)),
    ...Object.keys(timingsJson(BLENDED.usage, BLENDED.timings, 1).blend!),
    ...Object.keys(explanationJson(BLENDED.explanation)),
  ];
  assert.deepEqual(
    words.filter((word) => !text.includes(`\`${word}\``)),
    [],
  );
  const { documentsMax, documentCharactersMax, titleCharactersMax, ttlSecondsMax } = DEFAULT_LIMITS;
  const { cacheSaltCharactersMax, promptCacheKeyCharactersMax } = DEFAULT_LIMITS;
  for (const limit of [
    documentsMax,
    documentCharactersMax,
    titleCharactersMax,
    ttlSecondsMax,
    cacheSaltCharactersMax,
    promptCacheKeyCharactersMax,
  ]) {
    assert.ok(text.includes(`to ${limit.toLocaleString('en')} `), String(limit));
  }
  const { documentsPerNamespaceMax, bytesMax } = DEFAULT_LIBRARY_LIMITS;
  const counts = `${documentsPerNamespaceMax.toLocaleString('en')} documents, all keys together ${bytesMax / 1024 ** 3} GiB`;
  assert.ok(text.includes(counts), counts);
});

test('the example requests of docs/api.md are valid, and the answers have their fields', () => {
  const examples = [...read('docs/api.md').matchAll(/```json\n(.*?)```/gs)].map(([, json]) =>
    JSON.parse(json!),
  );
  const exampleWith = (field: string) => examples.find((example) => field in example);
  const { cache } = exampleWith('cache');
  const parsed = chatBody(DEFAULT_LIMITS).parse({ ...exampleWith('messages'), cache });
  assert.equal(parsed.work.prompt.kind === 'chat' && parsed.work.prompt.documents.length, 3);
  assert.equal(parsed.work.cache.mode, 'blend');
  const order = storedDocument(DEFAULT_LIMITS).parse(exampleWith('ttl_seconds'));
  const createdAtMs = 1_795_593_600_000;
  const reading: DocumentReading = {
    id: 'lamp',
    title: order.passage.title,
    status: 'computing',
    computedTokens: 64,
    tokens: 97,
    cached: { ...NO_TOKENS, host: 64 },
    createdAtMs,
    expiresAtMs: createdAtMs + order.ttlMs!,
    isPinned: order.isPinned,
    failure: undefined,
  };
  assert.deepEqual(exampleWith('status'), documentJson(reading));
  const message = exampleWith('stop_sequence');
  const dialect = createMessagesDialect(DEFAULT_LIMITS);
  const written = dialect.whole(
    { id: message.id, created: 0, model: { id: message.model, created: 0, contextTokens: 1 } },
    dialect.body.parse({ model: 'x', max_tokens: 1, messages: [{ role: 'user', content: 'x' }] }),
    {
      choices: [{ index: 0, text: 'Ada lit the lamp', logprobs: undefined, reason: 'stop', stopString: '.' }],
      end: {
        type: 'end',
        timings: BLENDED.timings,
        usage: {
          promptTokens: 71,
          completionTokens: 5,
          cachedTokens: { ...NO_TOKENS, device: 64 },
          blendedTokens: NO_TOKENS,
          computedTokens: 7,
        },
      },
    },
  );
  assert.deepEqual(message, written);
  const explained = Object.keys(exampleWith('explanation').explanation);
  assert.deepEqual(explained, Object.keys(explanationJson(BLENDED.explanation)));
});

test('docs/api.md and docs/operating.md have the parameters, fields and limits of statistics', () => {
  const [api, operating] = [read('docs/api.md'), read('docs/operating.md')];
  const examples = [...api.matchAll(/```json\n(.*?)```/gs)].map(([, json]) => JSON.parse(json!));
  const example = examples.find((each) => 'window' in each);
  const fields = Object.keys(countsJson(noCounts()));
  assert.deepEqual(
    Object.keys(example).filter((field) => !['window', 'since', 'group_by', 'groups'].includes(field)),
    [...fields, 'by_tier'],
  );
  const { device, host, disk, remote } = example.by_tier;
  const tiers = [device, host, disk, remote];
  const sum = (field: string) => tiers.reduce((total, tier) => total + tier[field], 0);
  assert.equal(sum('cached_tokens'), example.cached_tokens);
  assert.equal(sum('blended_tokens'), example.blended_tokens);
  const reused = example.cached_tokens + example.blended_tokens;
  assert.equal(reused + example.computed_tokens, example.prompt_tokens);
  assert.deepEqual(
    [example.hit_rate, example.exact_hit_rate],
    [reused / example.prompt_tokens, example.cached_tokens / example.prompt_tokens],
  );
  for (const word of [...WINDOW_NAMES, ...DIMENSIONS, ...OUTCOMES, ...ENDPOINTS])
    assert(api.includes(`\`${word}\``), word);
  const { groupsMax, allTimeGroupsMax, resolutions } = DEFAULT_TABLE_LIMITS;
  assert(api.includes(`${groupsMax} groups`) && operating.includes(`at most ${groupsMax} tenants`));
  assert(api.includes(`over all time ${allTimeGroupsMax.toLocaleString('en')};`));
  assert(api.includes(`at most ${POINTS_MAX}, else`));
  assert.deepEqual(
    resolutions.map(({ sizeMs, keepMs }) => [sizeMs / 1000, keepMs / 3_600_000]),
    [
      [10, 1],
      [60, 24],
      [600, 7 * 24],
      [3600, 90 * 24],
    ],
  );
  assert(
    api.includes(
      'Steps of 10 s are kept for 1 h, of 1 min for 24 h, of 10 min for 7 days, of 1 h for 90 days',
    ),
  );
  const buckets = resolutions.map((each) => bucketsMax(each).toLocaleString('en'));
  const counts = `${buckets[0]} buckets of 10 s, ${buckets[1]} of a minute, ${buckets[2]} of 10 minutes and ${buckets[3]} of an hour`;
  assert(operating.includes(counts), counts);
  assert(operating.includes(`written every ${WRITE_EVERY_MS / 1000} s`));
  assert(operating.includes(`more than ${ROWS_MAX.toLocaleString('en')} rows wait`));
  const clock = { now: () => 0 };
  for (const fault of Object.keys(History.open({ clock }).reading().faults))
    assert(operating.includes(`| \`${fault}\` |`), fault);
});

test('docs/api.md has the phases and limits of what is told of requests', () => {
  const api = read('docs/api.md');
  for (const word of [...HIT_CLASSES, ...PHASES]) assert(api.includes(`\`${word}\``), word);
  for (const claim of [
    `the last ${GHOSTS_MAX.toLocaleString('en')} evicted ones`,
    `${SAVERS_MAX.toLocaleString('en')} of each are told apart`,
    `up to ${SHOWN_BEFORE_TOKENS} tokens before the point and ${SHOWN_AFTER_TOKENS} after it`,
    `(${parseServeOptions().recentRequests}) are kept`,
  ])
    assert(api.includes(claim), claim);
});

test('docs/blending.md has every selector, mode, measured ratio and option of calibrating, with its default', () => {
  const text = read('docs/blending.md');
  for (const word of [...Object.keys(SELECTORS), ...CACHE_MODES]) assert(text.includes(`\`${word}\``), word);
  assert(text.includes(RATIOS.join(', ').replace(/, ([^,]*)$/, ' and $1')));
  const calibrating = createProgram(createTerminal(process.stdout, process.stderr, systemClock))
    .commands.find((command) => command.name() === 'model')!
    .commands.find((command) => command.name() === 'calibrate')!;
  const lines = text.split('\n').filter((line) => line.startsWith('| `--'));
  const places = ['--config', '--data-dir', '--models-dir'];
  const options = calibrating.options.filter(({ long }) => !places.includes(long!));
  assert.deepEqual(
    new Set(lines.map((line) => /^\| `(--[\w-]+)/.exec(line)![1])),
    new Set(options.map(({ long }) => long)),
  );
  for (const { long, defaultValue } of options) {
    if (defaultValue === undefined || long === '--threads') continue;
    assert(
      lines.some((line) => line.includes(long!) && line.includes(`| \`${defaultValue}\` |`)),
      long,
    );
  }
});

test('docs/blending.md shows the profile that comes along, and what follows from it', () => {
  const [profile] = BUILT_IN_PROFILES;
  const klMax = parseServeOptions({}).blendKlMax;
  const text = read('docs/blending.md');
  assert(text.includes(profileLines(profile!, klMax).join('\n')));
  assert.equal(read('docs/blend-profile.svg'), profilePlot(profile!, klMax));
});

test('what the documents name or link is there', () => {
  const documents = [
    'README.md',
    'ARCHITECTURE.md',
    'docs/api.md',
    'docs/blending.md',
    'docs/operating.md',
    'docs/errors.md',
    'docs/examples/rag/README.md',
  ];
  for (const document of documents) {
    const text = read(document);
    const links = [...text.matchAll(/\]\(([^):#]+)(?:#[^)]*)?\)/g)].map(([, path]) => path!);
    const beside = document.slice(0, document.lastIndexOf('/') + 1);
    const files = [...text.matchAll(/`((?:src|radix|storage|blend|tests|bench|docs|docker)\/[\w./-]*)`/g)];
    const missing = [...links.map((path) => beside + path), ...files.map(([, path]) => path!)].filter(
      (path) => !existsSync(path),
    );
    assert.deepEqual(missing, [], document);
  }
});
