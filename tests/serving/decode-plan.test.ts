/** Into which batches sequences are put, and what a step of them is predicted to take. */
import assert from 'node:assert/strict';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { commonPrefix } from '../../src/cache/device-runs.js';
import { DecodeCosts, type DecodeShape } from '../../src/serving/decode-costs.js';
import { type PlannedRun, planDecode } from '../../src/serving/decode-plan.js';

const LIMITS = { rowsMax: 4, sharedRowsMin: 4, sharedRowsStep: 2 };

interface Member {
  readonly name: string;
  readonly run: PlannedRun;
}

/** A run of a letter a token. */
function member(
  text: string,
  { namespace = '', length = text.length + 1, exact = text.length } = {},
): Member {
  const tokens = Int32Array.from(text, (letter) => letter.charCodeAt(0));
  return { name: text, run: { namespace, tokens, length, exact, base: undefined } };
}

/** Weights once a run of the graph, then keys as they are read. */
const byKeys =
  (weights: number) =>
  ({ positions, sharedRows }: DecodeShape) =>
    weights + sharedRows + positions.reduce((sum, position) => sum + position - sharedRows, 0);

const plan = (members: readonly Member[], weights: number) =>
  planDecode(members, byKeys(weights), LIMITS).map((batch) => ({
    names: batch.members.map(({ name }) => name),
    sharedRows: batch.sharedRows,
  }));

suite('batches', () => {
  test('sequences that share nothing are decoded together too', () => {
    assert.deepEqual(plan([member('bbbb'), member('aaaa')], 10), [
      { names: ['aaaa', 'bbbb'], sharedRows: 0 },
    ]);
  });

  test('of nested prefixes the one is shared that pays most', () => {
    const system = 's'.repeat(10);
    const [x1, x2, y1, y2] = ['x1', 'x2', 'y1', 'y2'].map((end) =>
      member(system + end[0]!.repeat(20) + end[1]!),
    );
    const members = [y1!, x2!, x1!, y2!];
    const names = [x1!, x2!, y1!, y2!].map(({ name }) => name);
    // Reading the weights twice takes longer than reading two documents twice each, or not.
    assert.deepEqual(plan(members, 1000), [{ names, sharedRows: 10 }]);
    assert.deepEqual(plan(members, 1), [
      { names: names.slice(0, 2), sharedRows: 30 },
      { names: names.slice(2), sharedRows: 30 },
    ]);
  });

  test('rows of other tenants, and rows that are not exact, are shared with nobody', () => {
    const text = 'a'.repeat(8);
    const strangers = [member(text, { namespace: 'a' }), member(text, { namespace: 'b' })];
    assert.deepEqual(plan(strangers, 10), [{ names: [text, text], sharedRows: 0 }]);
    assert.deepEqual(plan([member(text, { exact: 5 }), member(text)], 10)[0]!.sharedRows, 4);
  });

  test('any plan has every sequence once, in batches that hold it, and shares only what is common', () => {
    const text = fc.string({ unit: fc.constantFrom('a', 'b'), minLength: 1, maxLength: 24 });
    const members = fc.array(fc.tuple(text, fc.constantFrom('', 'n')), { minLength: 1, maxLength: 12 });
    fc.assert(
      fc.property(members, fc.integer({ min: 1, max: 40 }), (drawn, weights) => {
        const all = drawn.map(([name, namespace]) => member(name, { namespace }));
        const batches = planDecode(all, byKeys(weights), LIMITS);
        assert.deepEqual(new Set(batches.flatMap((batch) => batch.members)), new Set(all));
        assert.equal(batches.flatMap((batch) => batch.members).length, all.length);
        for (const { members: batch, sharedRows } of batches) {
          assert(batch.length <= LIMITS.rowsMax);
          assert(sharedRows % 2 === 0 && (sharedRows === 0 || sharedRows >= 4));
          const [first] = batch;
          for (const { run } of batch) {
            assert(sharedRows < run.length);
            if (sharedRows === 0) continue;
            assert.equal(run.namespace, first!.run.namespace);
            assert(commonPrefix(run.tokens, first!.run.tokens) >= sharedRows);
          }
        }
        const cost = batches.reduce((sum, { members: batch, sharedRows }) => {
          const positions = batch.map(({ run }) => run.length);
          return sum + byKeys(weights)({ positions, sharedRows });
        }, 0);
        const oneByOne = all.reduce((sum, { run }) => sum + weights + run.length, 0);
        assert(cost <= oneByOne);
      }),
    );
  });

  test('what is shared is in one piece in one of the runs', () => {
    const text = 'a'.repeat(12);
    const rest = { id: 0, capacityTokens: 12, settled: 12, isActive: false, usedAt: 0, blended: 0 };
    const base = { run: { ...member(text).run, ...rest, isPrivate: false }, rows: 6 };
    const standing = () => {
      const { name, run } = member(text);
      return { name, run: { ...run, base } };
    };
    assert.equal(plan([standing(), standing()], 10)[0]!.sharedRows, 6);
    assert.equal(plan([standing(), member(text)], 10)[0]!.sharedRows, 12);
  });
});

const slow = ({ positions, sharedRows }: DecodeShape) => {
  const own = positions.reduce((sum, position) => sum + position - sharedRows, 0);
  return 400 + 30 * positions.length + own * 0.1 + sharedRows * 0.05;
};

suite('predictions', () => {
  const SHAPES: DecodeShape[] = [
    { positions: [100, 100], sharedRows: 0 },
    { positions: [2000, 2100, 2000, 2100], sharedRows: 0 },
    { positions: [2000, 2100, 2000, 2100], sharedRows: 1900 },
    { positions: Array<number>(8).fill(3000), sharedRows: 2000 },
    { positions: Array<number>(8).fill(1000), sharedRows: 0 },
    { positions: Array<number>(2).fill(3000), sharedRows: 2500 },
  ];

  test('follow what steps took, on a machine and a model that are nothing like those believed', () => {
    const costs = new DecodeCosts();
    for (let step = 0; step < 600; step++) {
      const shape = SHAPES[step % SHAPES.length]!;
      costs.measured(shape, slow(shape) * (step % 7 === 0 ? 1.1 : 1));
      costs.measured({ positions: [500 + step], sharedRows: 0 }, 200 + step / 10);
    }
    for (const shape of SHAPES) {
      const ratio = costs.predict(shape) / slow(shape);
      assert(ratio > 0.85 && ratio < 1.15, `${JSON.stringify(shape)}: ${ratio}`);
    }
    const lone = costs.predict({ positions: [800], sharedRows: 0 });
    assert(Math.abs(lone / 230 - 1) < 0.1, `${lone}`);
  });

  test('of batches not measured yet are as those of the default model, on a machine as fast as lone steps show', () => {
    const costs = new DecodeCosts();
    const lone = { positions: [1000], sharedRows: 0 };
    const together = { positions: [1000, 1000, 1000, 1000], sharedRows: 0 };
    const ratio = costs.predict(together) / costs.predict(lone);
    for (let step = 0; step < 50; step++) costs.measured(lone, 0.5);
    assert(Math.abs(costs.predict(lone) - 0.5) < 0.1, `${costs.predict(lone)}`);
    assert(Math.abs(costs.predict(together) / costs.predict(lone) / ratio - 1) < 0.1);
    // A trial believes so whatever was measured.
    for (let step = 0; step < 50; step++) costs.measured(together, 100);
    assert(costs.predict(together) > 50 && costs.believed(together) < 5, `${costs.predict(together)}`);
  });

  test('are not thrown by one step that took far too long', () => {
    const costs = new DecodeCosts();
    for (let step = 0; step < 100; step++) costs.measured(SHAPES[step % 6]!, slow(SHAPES[step % 6]!));
    const before = costs.predict(SHAPES[2]!);
    costs.measured(SHAPES[2]!, 100_000);
    const after = costs.predict(SHAPES[2]!);
    assert(after < 2 * before, `${before} → ${after}`);
  });
});
