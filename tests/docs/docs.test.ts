import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { chatSchema } from '../../src/api/chat-schema.js';
import { DEFAULT_LIMITS } from '../../src/api/limits.js';
import { textSchema } from '../../src/api/text-schema.js';
import { type OptionRow, SERVE_OPTION_ROWS } from '../../src/config/options.js';
import { createMetrics } from '../../src/serving/metrics.js';
import { Statistics } from '../../src/serving/statistics.js';

const read = (path: string): string => readFileSync(path, 'utf8');

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

test('docs/operating.md and the registry list the same metrics', async () => {
  const statistics = new Statistics({ gauges: () => ({ tiers: {} }) });
  const text = await createMetrics(statistics).scrape();
  const registered = [...text.matchAll(/^# TYPE (radixkv_\w+) (\w+)$/gm)].map(
    ([, name, type]) => `${name} ${type}`,
  );
  const lines = [...read('docs/operating.md').matchAll(/^\| `(radixkv_\w+)` \| (\w+) \| /gm)];
  assert.deepEqual(lines.map(([, name, type]) => `${name} ${type}`).sort(), registered.sort());
});

test('docs/api.md names every field of both completion endpoints', () => {
  const text = read('docs/api.md');
  const fields = [
    ...Object.keys(chatSchema(DEFAULT_LIMITS).shape),
    ...Object.keys(textSchema(DEFAULT_LIMITS).shape),
  ];
  assert.deepEqual(
    fields.filter((field) => !text.includes(`\`${field}\``)),
    [],
  );
});

test('what the documents name or link is there', () => {
  const documents = ['README.md', 'ARCHITECTURE.md', 'docs/api.md', 'docs/operating.md', 'docs/errors.md'];
  for (const document of documents) {
    const text = read(document);
    const links = [...text.matchAll(/\]\(([^):#]+)(?:#[^)]*)?\)/g)].map(([, path]) => path!);
    const beside = document.startsWith('docs/') ? 'docs/' : '';
    const files = [...text.matchAll(/`((?:src|radix|storage|blend|tests|bench|docs|docker)\/[\w./-]*)`/g)];
    const missing = [...links.map((path) => beside + path), ...files.map(([, path]) => path!)].filter(
      (path) => !existsSync(path),
    );
    assert.deepEqual(missing, [], document);
  }
});
