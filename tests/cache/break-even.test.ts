import assert from 'node:assert/strict';
import { test } from 'node:test';
import { BreakEven } from '../../src/cache/break-even.js';

/** Prefill at 100 tokens a second; loads at `bytesPerS`. */
function measured(mode: 'auto' | 'off', bytesPerS: number): BreakEven {
  const breakEven = new BreakEven(mode);
  breakEven.prefilled(100, 1000);
  breakEven.loaded(bytesPerS, 1000);
  return breakEven;
}

test('a load is worth it exactly as long as it takes no longer than the prefill', () => {
  const breakEven = measured('auto', 1000);
  assert(breakEven.isWorth(1000, 100));
  assert(!breakEven.isWorth(1001, 100));
  assert(breakEven.isWorth(1001, 101));
});

test('what was never measured is tried', () => {
  const breakEven = new BreakEven('auto');
  assert(breakEven.decide(1e9, 1));
  breakEven.prefilled(100, 1);
  assert(breakEven.decide(1e9, 1));
});

test('short tiles do not count: their overhead would make computing look slow', () => {
  const breakEven = measured('auto', 1000);
  breakEven.prefilled(2, 10_000);
  assert.equal(breakEven.reading().prefillTokensPerS, 100);
});

test('a tier that became fast again is used again, since it is tried now and then', () => {
  const breakEven = measured('auto', 1);
  const tries = Array.from({ length: 320 }, () => breakEven.decide(1000, 100)).filter(Boolean);
  assert.equal(tries.length, 10);
  for (let i = 0; i < 100; i++) breakEven.loaded(1000, 1);
  assert(breakEven.isWorth(1000, 100));
});

test('off means that every load is worth it', () => {
  assert(measured('off', 1).isWorth(1e9, 1));
});

test('as many tokens are hidden behind a load as are computed meanwhile, and none before both speeds are known', () => {
  assert.equal(new BreakEven('auto').hiddenTokens(1e9, 100), 0);
  // 100 tokens and 1000 bytes take a second each.
  const breakEven = measured('auto', 1000);
  assert.equal(breakEven.hiddenTokens(500, 400), 50);
  assert.equal(breakEven.hiddenTokens(1e9, 400), 400, 'no more than are loaded');
  assert.equal(breakEven.hiddenTokens(0, 0), 0);
});
