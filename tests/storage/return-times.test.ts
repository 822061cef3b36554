/** ReturnTimes: what is learned from waits that ended, and from those that did not. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { ReturnTimes } from '../../storage/policy/return-times.js';

/** A wait of a class begins at each time; those of class 0 end after `after`, the others never. */
function learned(options: { readonly after: number; readonly waits: number }): ReturnTimes {
  const times = new ReturnTimes({ classes: 2 });
  const due: (() => void)[] = [];
  const end = options.waits + 20 * options.after;
  for (let now = 0; now < end; now++) {
    if (now < options.waits) {
      const wait = times.begin(now % 2, now);
      if (now % 2 === 0) due[now + options.after] = () => times.end(wait, now + options.after);
    }
    due[now]?.();
  }
  times.learn(end, 1);
  return times;
}

test('nothing is worth anything before something came back', () => {
  const times = new ReturnTimes({ classes: 2 });
  times.begin(0, 0);
  times.learn(1000, 1);
  assert.equal(times.worth(0, 0), 0);
});

test('a class that comes back is worth more than one that does not', () => {
  const times = learned({ after: 10, waits: 2000 });
  assert(times.worth(0, 1) > 5 * times.worth(1, 1));
});

test('the closer the return the more a chunk is worth, and nothing once that time is over', () => {
  const times = learned({ after: 100, waits: 4000 });
  const worths = [0, 20, 60, 95].map((waited) => times.worth(0, waited));
  assert.deepEqual(
    worths,
    worths.toSorted((a, b) => a - b),
  );
  assert(new Set(worths).size === 4);
  assert(times.worth(0, 300) < 0.01 * times.worth(0, 95));
});

test('what comes back sooner is worth more', () => {
  const soon = learned({ after: 10, waits: 2000 });
  const late = learned({ after: 80, waits: 2000 });
  assert(soon.worth(0, 1) > 3 * late.worth(0, 1));
});

test('waits that go on count against their class, and so do those that were abandoned', () => {
  const times = new ReturnTimes({ classes: 1 });
  for (let i = 0; i < 100; i++) times.end(times.begin(0, i), i + 4);
  times.learn(200, 1);
  const before = times.worth(0, 0);
  for (let i = 200; i < 500; i++) {
    const wait = times.begin(0, i);
    if (i % 2 === 0) times.abandon(wait, i + 50);
  }
  times.learn(600, 1);
  assert(times.worth(0, 0) < 0.5 * before);
});

test('what was counted long ago fades', () => {
  const times = learned({ after: 10, waits: 2000 });
  for (let i = 10_000; i < 10_200; i++) times.end(times.begin(1, i), i + 10);
  times.learn(10_300, 1);
  const unfaded = times.worth(1, 1);
  const fading = learned({ after: 10, waits: 2000 });
  fading.learn(9000, 0.01);
  for (let i = 10_000; i < 10_200; i++) fading.end(fading.begin(1, i), i + 10);
  fading.learn(10_300, 1);
  assert(fading.worth(1, 1) > 2 * unfaded);
});
