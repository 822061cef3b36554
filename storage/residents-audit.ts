/** Recounts who is in a tier against what it claims (the invariants of residents.ts). Changes nothing. */
import assert from 'node:assert/strict';
import type { ChunkKey } from './key.js';
import type { Entry } from './resident.js';
import type { Lanes } from './residents.js';

interface ResidentsState<Data> {
  readonly entries: ReadonlyMap<ChunkKey, Entry<Data>>;
  readonly orphans: ReadonlyMap<ChunkKey, number>;
  readonly leaves: ReadonlyMap<number, Lanes<Data>>;
  readonly usedBytes: number;
  readonly capacityBytes: number;
  readonly pinnedBytes: number;
  readonly pinBytesMax: number;
}

export function auditResidents<Data>(tier: ResidentsState<Data>): void {
  const children = new Map<ChunkKey, number>();
  let usedBytes = 0;
  let pinnedBytes = 0;
  let leaves = 0;
  for (const [key, entry] of tier.entries) {
    assert(entry.key === key);
    usedBytes += entry.bytes;
    if (entry.isPinned) pinnedBytes += entry.bytes;
    if (entry.mayBeEvicted) leaves++;
    assert.equal(entry.leaf.position !== undefined, entry.mayBeEvicted, 'what may be evicted is ranked');
    assert.equal(entry.leaves !== undefined, entry.mayBeEvicted);
    assert(entry.state === 'present' || !entry.isPinned, 'only a present chunk is pinned');
    if (entry.state === 'condemned') assert(entry.leases > 0, 'a condemned chunk is leased');
    else if (entry.parent !== undefined) children.set(entry.parent, (children.get(entry.parent) ?? 0) + 1);
  }
  for (const entry of tier.entries.values()) {
    if (entry.state === 'condemned') continue;
    assert.equal(entry.children, children.get(entry.key) ?? 0, 'children equal a recount');
    children.delete(entry.key);
  }
  assert.deepEqual(new Map(tier.orphans), children, 'orphans equal a recount');
  assert.equal(tier.usedBytes, usedBytes, 'used bytes equal a recount');
  assert(usedBytes <= tier.capacityBytes, 'the capacity holds');
  assert.equal(tier.pinnedBytes, pinnedBytes, 'pinned bytes equal a recount');
  assert(pinnedBytes <= tier.pinBytesMax, 'pins keep to their share');
  let ranked = 0;
  for (const ranking of [...tier.leaves.values()].flat()) {
    ranking.audit();
    ranked += ranking.size;
  }
  assert.equal(ranked, leaves, 'nothing else is ranked');
}
