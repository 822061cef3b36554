import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { BenchRow } from '../../bench/harness.js';
import { benchSection, digits, markdownTable, replaceSection } from '../../bench/table.js';

const spread = (median: number): { median: number; min: number; max: number } => ({
  median,
  min: median / 2,
  max: median * 2,
});

const row: BenchRow = {
  name: 'prefill 512',
  tokens: 512,
  ms: { ours: spread(512), peer: spread(1024) },
  ratioOf: 'speed',
  ratio: spread(2),
  target: { atLeast: 2.2 },
};

test('a row with tokens shows tokens per second, the ratio with its range and a missed target', () => {
  const lines = markdownTable([row], ['ours', 'peer']).split('\n');
  assert.equal(
    lines[2],
    '| prefill 512 | 1,000 tok/s | 500 tok/s | 2× (1–4), short of the target | ≥ 2.2× |',
  );
});

test('a met target is not remarked on', () => {
  const met = markdownTable([{ ...row, ratio: spread(2.2) }], ['ours']);
  assert.ok(!met.includes('short'));
  const low = markdownTable([{ ...row, ratio: spread(0.7), target: { atMost: 0.6 } }], ['ours']);
  assert.ok(low.includes('short of the target'));
});

test('a row without tokens shows milliseconds, and the share of another row beside our time', () => {
  const ttft: BenchRow = {
    name: 'TTFT host',
    ms: { ours: spread(70.04) },
    ratioOf: 'time',
    share: { of: 'TTFT cold', value: 0.0312, atMost: 0.08 },
  };
  const line = markdownTable([ttft], ['ours', 'peer']).split('\n')[2];
  assert.equal(line, '| TTFT host | 70 ms (3.12 % of TTFT cold) | – | – | ≤ 8 % of TTFT cold |');
});

test('a share above its limit is remarked on', () => {
  const ttft: BenchRow = { ...row, share: { of: 'TTFT cold', value: 0.09, atMost: 0.08 } };
  assert.match(markdownTable([ttft], ['ours']), /\(9 % of TTFT cold, short of the target\)/);
});

test('the columns of every line of a table are the same', () => {
  const counts = markdownTable([row, { ...row, ms: { peer: spread(1) } }], ['ours', 'peer'])
    .split('\n')
    .map((line) => line.split('|').length);
  assert.equal(new Set(counts).size, 1);
});

test('numbers have three significant digits and no exponent', () => {
  assert.deepEqual([1234567, 999.6, 99.96, 0.012345, 0].map(digits), [
    '1,234,567',
    '1,000',
    '100',
    '0.0123',
    '0',
  ]);
});

test('the section says what it was measured on and how to repeat it', () => {
  const machine = { cpu: 'A CPU', cores: 2, memoryGiB: 8, node: 'v20.0.0', onnxruntime: '1.30.0' };
  const result = {
    name: 'prefill',
    date: '2026-01-02T03:04:05Z',
    command: 'npm run bench -- prefill',
    quick: false,
  };
  const section = benchSection([{ ...result, machine, rows: [row] }]);
  assert.ok(section.startsWith('|  | ours | peer |'));
  assert.ok(
    section.endsWith(
      'Measured on A CPU, 2 cores, 8 GiB, Node v20.0.0, ONNX Runtime 1.30.0, 2026-01-02. Repeat with `npm run bench -- prefill`.',
    ),
  );
});

test('a quick run never reaches the README', () => {
  const machine = { cpu: 'A CPU', cores: 2, memoryGiB: 8, node: 'v20.0.0', onnxruntime: '1.30.0' };
  const result = { name: 'prefill', date: '', command: '', quick: true, machine, rows: [row] };
  assert.throws(() => benchSection([result]), /prefill was measured with --quick/);
});

test('only the text between the markers is replaced, again and again', () => {
  const readme = 'before\n<!-- bench:start -->\nold\n<!-- bench:end -->\nafter\n';
  const once = replaceSection(readme, 'new');
  assert.equal(once, 'before\n<!-- bench:start -->\nnew\n<!-- bench:end -->\nafter\n');
  assert.equal(replaceSection(once, 'new'), once);
});

test('a README without both markers in order is refused', () => {
  assert.throws(() => replaceSection('<!-- bench:start -->', 'x'), /README.md needs/);
  assert.throws(() => replaceSection('<!-- bench:end --><!-- bench:start -->', 'x'));
});
