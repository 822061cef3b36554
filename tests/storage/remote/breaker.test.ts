import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Breaker } from '../../../storage/remote/breaker.js';
import { ManualClock } from '../../support/manual-clock.js';

function breaker() {
  const clock = new ManualClock();
  const states: string[] = [];
  return { clock, states, breaker: new Breaker({ clock, onChange: (state) => states.push(state) }) };
}

test('it opens by one failure, and closes by one probe', () => {
  const { breaker: one, states } = breaker();
  one.beginProbe();
  one.passed();
  assert.equal(one.trip('timeout'), true);
  assert.equal(one.trip('timeout'), false, 'it is open');
  assert.deepEqual([one.state, one.reason, one.trips], ['open', 'timeout', 1]);
  one.beginProbe();
  one.passed();
  assert.deepEqual([one.state, one.reason], ['closed', undefined]);
  assert.deepEqual(states, ['half-open', 'closed', 'open', 'half-open', 'closed']);
});

test('pauses double with each failure up to 8 s, also where probes pass in between, until it was sound for 30 s', () => {
  const { breaker: one, clock } = breaker();
  const pauses: number[] = [];
  for (let i = 0; i < 8; i++) {
    one.beginProbe();
    if (i % 2 === 0) one.passed();
    one.trip('disconnected');
    pauses.push(one.pauseMs);
  }
  assert.deepEqual(pauses, [250, 500, 1000, 2000, 4000, 8000, 8000, 8000]);
  one.beginProbe();
  one.passed();
  clock.nowMs += 30_000;
  one.trip('disconnected');
  assert.equal(one.pauseMs, 250);
});
