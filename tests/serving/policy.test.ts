/** The scheduler's policy: what it chooses, and that its bounds hold over the traffic of a day on a virtual clock. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { suite, test } from 'node:test';
import fc from 'fast-check';
import { median } from '../../bench/statistics.js';
import { FairShare } from '../../src/serving/fair-share.js';
import {
  type PolicyLimits,
  SchedulingPolicy,
  TILE_STEP_TOKENS,
  type Waiting,
} from '../../src/serving/policy.js';
import { PrefillCosts } from '../../src/serving/prefill-costs.js';
import { type Job, type SimulatedEngine, type SimulatedRequest, simulate } from './simulator.js';

const LIMITS: PolicyLimits = {
  maxActive: 16,
  maxActiveTokens: 15_000,
  patienceMs: 5000,
  tpotTargetMs: 150,
  tileTokens: 512,
};

/** About the default model on two cores. */
const ENGINE: SimulatedEngine = {
  memoryTokens: 24_000,
  prefillMs: ({ start, tokens }) => 12 + 1.3 * tokens + (tokens * start) / 4000,
  decodeMs: (contexts) => 15 + 4 * contexts.length + contexts.reduce((sum, rows) => sum + rows, 0) / 400,
};

/** Recorded arrivals and lengths. @param pace how many times as much time passes between them */
function recorded(pace: number): SimulatedRequest[] {
  const file = new URL('../../../tests/serving/azure-conversations.csv', import.meta.url);
  const lines = readFileSync(file, 'utf8').trimEnd().split('\n').slice(1);
  return lines.map((line) => {
    const [arrivedAt, promptTokens, answerTokens] = line.split(',').map(Number);
    return { arrivedAt: arrivedAt! * pace, promptTokens: promptTokens!, answerTokens: answerTokens! };
  });
}

/** Half of them are cold, the others begin with what is cached. */
const withCache = (requests: readonly SimulatedRequest[]) =>
  requests.map((request, i) => ({
    ...request,
    cachedTokens: i % 2 === 0 ? 0 : Math.floor(request.promptTokens * 0.9),
  }));

const waitsOf = (jobs: readonly Job[]) => jobs.map((job) => job.firstTokenAt! - job.arrivedAt);

/** All at once. */
const burst = (tenant: string, take: (request: SimulatedRequest) => SimulatedRequest) =>
  recorded(0).map((request) => ({ ...take(request), tenant }));

suite('on the virtual clock, over recorded arrivals', () => {
  for (const { what, pace } of [
    { what: 'that are more than it can serve', pace: 1 },
    { what: 'that leave it time', pace: 40 },
  ]) {
    test(`${what}, every request is served, and no budget is exceeded`, () => {
      const jobs = simulate(withCache(recorded(pace)), LIMITS, ENGINE, {
        onBegin: (job, _, active) => {
          const tokens = active.reduce((sum, other) => sum + other.tokens, job.tokens);
          assert(active.length === 0 || tokens <= LIMITS.maxActiveTokens);
        },
        onStep: (active) => {
          assert(active.length <= LIMITS.maxActive);
          assert(active.reduce((sum, { rows }) => sum + rows, 0) <= ENGINE.memoryTokens);
        },
      });
      for (const job of jobs) {
        assert.equal(job.answered, job.asked.answerTokens);
        assert(
          job.beganAt! >= job.arrivedAt &&
            job.firstTokenAt! > job.beganAt! &&
            job.endedAt! >= job.firstTokenAt!,
        );
      }
    });

    test(`${what}, tokens of an answer come in time`, () => {
      let [gaps, late] = [0, 0];
      simulate(withCache(recorded(pace)), LIMITS, ENGINE, {
        onGap: (ms, decodeMs) => {
          gaps++;
          // A tile is cut to whole steps, and may not be shorter than one.
          const allowedMs =
            Math.max(LIMITS.tpotTargetMs, 2 * decodeMs) +
            ENGINE.prefillMs({ start: 0, tokens: TILE_STEP_TOKENS });
          if (ms > allowedMs * 1.1) late++;
        },
      });
      assert(gaps > 100_000);
      // While it does not know yet what tiles take.
      assert(late / gaps < 0.001, `${late} of ${gaps}`);
    });

    test(`${what}, nobody is overtaken for longer than the patience`, () => {
      let overtaken = 0;
      simulate(withCache(recorded(pace)), LIMITS, ENGINE, {
        onBegin: (job, waiting, _, now) => {
          const earlier = waiting.filter((other) => other.arrivedAt < job.arrivedAt && !job.hasBegun);
          if (earlier.length > 0) overtaken++;
          for (const other of earlier) assert(now < other.arrivedAt + LIMITS.patienceMs);
        },
      });
      assert(pace > 1 || overtaken > 0, 'those with a cached prefix did overtake');
    });
  }

  test('a tenant that floods waits for itself, and others hardly', () => {
    const flood = recorded(1).map((request) => ({ ...request, tenant: 'flood' }));
    const modest = recorded(20)
      .slice(0, 100)
      .map((request) => ({ ...request, tenant: 'modest' }));
    const jobs = simulate([...flood, ...modest], LIMITS, ENGINE);
    const asOne = simulate(
      [...flood, ...modest.map((request) => ({ ...request, tenant: 'flood' }))],
      LIMITS,
      ENGINE,
    );
    assert(median(waitsOf(jobs.slice(flood.length))) < median(waitsOf(asOne.slice(flood.length))) / 10);
  });

  test('two tenants that always wait get the same of the engine', () => {
    // One sends long prompts with short answers, the other one the other way round.
    const requests = [
      ...burst('reads', (request) => ({ ...request, answerTokens: 8 })),
      ...burst('writes', (request) => ({ ...request, promptTokens: 40 })),
    ];
    const seen = new Set<Job>();
    const served = { reads: 0, writes: 0 };
    let most = 0;
    simulate(requests, LIMITS, ENGINE, {
      onBegin: (job, waiting) => {
        seen.add(job);
        const isBoth = ['reads', 'writes'].every((tenant) =>
          waiting.some((other) => other.tenant === tenant),
        );
        if (!isBoth) return;
        for (const tenant of ['reads', 'writes'] as const) {
          const jobs = [...seen].filter((other) => other.tenant === tenant);
          served[tenant] = jobs.reduce((sum, { servedMs }) => sum + servedMs, 0);
        }
        most = Math.max(most, Math.abs(served.reads - served.writes));
      },
    });
    // As far apart as what is active may take: sixteen of the longest.
    assert(Math.min(served.reads, served.writes) > 300_000);
    assert(most < 0.1 * served.reads, `${most} ms apart, of ${served.reads}`);
  });

  test('a more important request begins before and instead of others', () => {
    const requests = withCache(recorded(1)).map((request, i) => ({
      ...request,
      priority: i % 10 === 0 ? -1 : 0,
    }));
    const jobs = simulate(requests, LIMITS, ENGINE, {
      onBegin: (job, waiting) => {
        assert(!waiting.some(({ priority }) => priority < job.priority));
      },
    });
    const ttft = (priority: number) => {
      const times = jobs
        .filter((job) => job.priority === priority)
        .map((job) => job.firstTokenAt! - job.arrivedAt);
      return times.reduce((sum, ms) => sum + ms, 0) / times.length;
    };
    assert(ttft(-1) < ttft(0) / 10);
    assert(jobs.some(({ preemptions }) => preemptions > 0));
    for (const { priority, preemptions } of jobs) assert(priority === 0 || preemptions < 20);
  });

  test('a deadline is kept, or the request costs nothing more', () => {
    const requests = withCache(recorded(1)).map((request) => ({ ...request, deadlineMs: 8000 }));
    const jobs = simulate(requests, LIMITS, ENGINE);
    for (const job of jobs) {
      if (job.isLate) assert.equal(job.answered, 0);
      else assert.equal(job.answered, job.asked.answerTokens);
    }
    const kept = jobs.filter(({ isLate }) => !isLate);
    assert(kept.length > 20 && kept.length < jobs.length);
    for (const job of kept) assert(job.firstTokenAt! - job.arrivedAt <= 8000 + 1000);
  });

  test('short of memory, requests give way, and all are served', () => {
    const memoryTokens = 8000;
    const jobs = simulate(
      recorded(1),
      LIMITS,
      { ...ENGINE, memoryTokens },
      {
        onStep: (active) => assert(active.reduce((sum, { rows }) => sum + rows, 0) <= memoryTokens),
      },
    );
    assert(jobs.some(({ preemptions }) => preemptions > 0));
    for (const job of jobs) assert.equal(job.answered, job.asked.answerTokens);
  });
});

const waiting = (parts: Partial<Waiting> & { readonly cached?: number } = {}): Waiting => {
  const { cached = 0, ...rest } = parts;
  return {
    tenant: '',
    priority: 0,
    arrivedAt: 0,
    deadlineAt: undefined,
    tokens: 1000,
    hasBegun: false,
    cachedTokens: () => cached,
    ...rest,
  };
};

suite('who is next', () => {
  const policy = () => {
    const made = new SchedulingPolicy(LIMITS);
    for (const tenant of ['', 'a', 'b']) made.tenants.came(tenant);
    return made;
  };
  const cases: readonly { readonly what: string; readonly first: Waiting; readonly second: Waiting }[] = [
    {
      what: 'the more important one',
      first: waiting({ priority: -1, arrivedAt: 100 }),
      second: waiting({ hasBegun: true }),
    },
    {
      what: 'the one that gave way',
      first: waiting({ hasBegun: true, arrivedAt: 100 }),
      second: waiting({ cached: 900 }),
    },
    {
      what: 'the one with more in the cache',
      first: waiting({ cached: 900, arrivedAt: 100 }),
      second: waiting({ cached: 800 }),
    },
    { what: 'the earlier one of two alike', first: waiting(), second: waiting({ arrivedAt: 100 }) },
    {
      what: 'the one that waited longer than the patience',
      first: waiting({ arrivedAt: -LIMITS.patienceMs }),
      second: waiting({ cached: 900, arrivedAt: 100 }),
    },
    {
      what: 'the one whose deadline leaves just the time for its prefill',
      first: waiting({ arrivedAt: 100, deadlineAt: 1500 }),
      second: waiting({ cached: 900 }),
    },
    {
      what: 'not yet the one whose deadline leaves more time than that',
      first: waiting({ cached: 900, arrivedAt: 100 }),
      second: waiting({ deadlineAt: 2500 }),
    },
  ];
  for (const { what, first, second } of cases) {
    test(what, () => {
      assert.equal(policy().next([first, second], 200), first);
      assert.equal(policy().next([second, first], 200), first);
    });
  }

  test('the one whose tenant had less, whatever it has in the cache', () => {
    const made = policy();
    made.tenants.charge('a', 50);
    const [a, b] = [waiting({ tenant: 'a', cached: 900 }), waiting({ tenant: 'b' })];
    assert.equal(made.next([a, b], 0), b);
    made.tenants.charge('b', 51);
    assert.equal(made.next([a, b], 0), a);
  });

  test('is a matter of order: the same one, however they are listed', () => {
    const request = fc.record({
      tenant: fc.constantFrom('a', 'b'),
      priority: fc.constantFrom(0, 1),
      arrivedAt: fc.nat(8000),
      cached: fc.nat(900),
      hasBegun: fc.boolean(),
    });
    fc.assert(
      fc.property(
        fc.uniqueArray(request, { minLength: 1, selector: ({ arrivedAt }) => arrivedAt }),
        (requests) => {
          const all = requests.map(waiting);
          const made = policy();
          made.tenants.charge('a', 10);
          assert.equal(made.next(all.toReversed(), 8000), made.next(all, 8000));
        },
      ),
    );
  });
});

suite('who gives way', () => {
  const policy = new SchedulingPolicy(LIMITS);
  const [important, early, late] = [
    waiting({ priority: -1, arrivedAt: 300 }),
    waiting({ arrivedAt: 100 }),
    waiting({ arrivedAt: 200 }),
  ];

  test('the latest of the least important ones', () => {
    assert.equal(policy.victim([late, important, early]), late);
    assert.equal(policy.victim([]), undefined);
  });

  test('nobody, to one that is no more important', () => {
    assert.equal(policy.victim([late, early, important], waiting()), undefined);
    assert.equal(policy.victim([early, important], waiting({ priority: -1 })), early);
  });
});

suite('a tenant', () => {
  test('that comes back finds its debt, and no savings', () => {
    const share = new FairShare();
    share.came('a');
    share.came('b');
    share.charge('a', 100);
    share.charge('b', 10);
    share.left('a');
    share.left('b');
    share.came('c');
    assert.equal(share.servedMs('c'), 10, 'as much as who left last');
    share.charge('c', 40);
    share.came('b');
    assert.equal(share.servedMs('b'), 50);
    share.came('a');
    assert.equal(share.servedMs('a'), 100);
  });
});

const takes = ({ start, tokens }: { start: number; tokens: number }) =>
  30 + 3 * tokens + (tokens * start) / 2000;

suite('a tile', () => {
  test('is as long as it may be where nobody waits, and at least a step beside any answer', () => {
    const policy = new SchedulingPolicy(LIMITS);
    assert.equal(policy.tileTokens(0, undefined), LIMITS.tileTokens);
    for (let i = 0; i < 20; i++) policy.prefillCosts.measured({ start: 0, tokens: 512 }, 60_000);
    assert.equal(policy.tileTokens(0, 20), TILE_STEP_TOKENS);
  });

  test('fills the time between two tokens, as it was measured', () => {
    const costs = new PrefillCosts();
    for (let i = 0; i < 100; i++) {
      const tile = { start: (i * 97) % 4000, tokens: 16 + ((i * 61) % 400) };
      costs.measured(tile, takes(tile));
    }
    for (const start of [0, 1000, 4000]) {
      const tokens = costs.tokensWithin(600, start);
      assert(Math.abs(takes({ start, tokens }) - 600) < 20, `${tokens} tokens from ${start}`);
    }
  });
});
