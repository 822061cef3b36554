/** Ranking against a sorted list. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Ranking, Ticket } from '../../storage/ranking.js';

const call = fc.record({ ticket: fc.nat(7), value: fc.option(fc.nat(9)), revalue: fc.nat(20) });

test('the lowest value is first, and all come in ascending order, wherever tickets move', () => {
  fc.assert(
    fc.property(fc.array(call, { maxLength: 60 }), (calls) => {
      const ranking = new Ranking<number>();
      const tickets = Array.from({ length: 8 }, (_, item) => new Ticket(item));
      const model = new Map<number, number>();
      for (const { ticket, value, revalue } of calls) {
        if (revalue < 8) {
          const rankOf = (item: number): number => (item * 5 + revalue) % 8;
          ranking.revalue(rankOf);
          for (const item of model.keys()) model.set(item, rankOf(item));
        } else if (value === null) {
          ranking.delete(tickets[ticket]!);
          model.delete(ticket);
        } else {
          ranking.set(tickets[ticket]!, value);
          model.set(ticket, value);
        }
        ranking.audit();
        const ascending = [...ranking.ascending()];
        assert.deepEqual(
          ascending.map(({ value: at }) => at),
          [...model.values()].sort((a, b) => a - b),
        );
        assert.deepEqual(new Map(ascending.map((each) => [each.item, each.value])), model);
        assert.equal(ranking.first?.value, ascending[0]?.value);
        assert.equal(ranking.size, model.size);
      }
    }),
  );
});
