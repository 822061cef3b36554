/** Recounts who is in a tier against what it claims (the invariants of residents.ts). Changes nothing. */
import assert from 'node:assert/strict';
import type { ChunkKey } from './key.js';
import type { Entry } from './resident.js';
import type { ResidentClasses } from './resident-classes.js';
import type { ResidentOwners } from './resident-owner.js';

interface ResidentsState<Data> {
  readonly entries: ReadonlyMap<ChunkKey, Entry<Data>>;
  readonly orphans: ReadonlyMap<ChunkKey, number>;
  readonly classes: ResidentClasses<Data>;
  readonly owners: ResidentOwners<Data>;
  readonly capacityBytes: number;
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
    const places = entry.owner.quotaBytes === undefined ? [entry.inClass] : [entry.inClass, entry.inOwner];
    for (const place of places) {
      assert.equal(place?.ticket.position !== undefined, entry.mayBeEvicted, 'what may be evicted is ranked');
      assert.equal(place?.ranking !== undefined, entry.mayBeEvicted);
    }
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
  assert.equal(tier.classes.usedBytes, usedBytes, 'used bytes equal a recount');
  assert(usedBytes <= tier.capacityBytes, 'the capacity holds');
  assert.equal(tier.classes.pinnedBytes, pinnedBytes, 'pinned bytes equal a recount');
  for (const each of tier.classes) {
    const own = [...tier.entries.values()].filter((entry) => entry.class === each);
    const bytes = (entries: readonly Entry<Data>[]) => entries.reduce((sum, entry) => sum + entry.bytes, 0);
    assert.equal(each.count, own.length, 'chunks of a class equal a recount');
    assert.equal(each.usedBytes, bytes(own), 'bytes of a class equal a recount');
    assert.equal(each.pinnedBytes, bytes(own.filter((entry) => entry.isPinned)), 'and so do pinned bytes');
    assert(each.pinnedBytes <= each.pinBytesMax, 'pins keep to their share');
  }
  auditOwners(tier);
  let ranked = 0;
  for (const ranking of [...tier.classes].flatMap((each) => [...each.rankings()])) {
    ranking.audit();
    ranked += ranking.size;
  }
  assert.equal(ranked, leaves, 'nothing else is ranked');
}

function auditOwners<Data>({ entries, owners, classes }: ResidentsState<Data>): void {
  const sum = (some: readonly Entry<Data>[]) => some.reduce((bytes, entry) => bytes + entry.bytes, 0);
  const known = new Set(owners);
  for (const { owner } of entries.values()) assert(known.has(owner), 'who has chunks is known');
  for (const owner of owners) {
    const own = [...entries.values()].filter((entry) => entry.owner === owner);
    const pinned = own.filter((entry) => entry.isPinned);
    assert(
      own.length > 0 || owner.quotaBytes !== undefined,
      'who has neither chunks nor a quota is forgotten',
    );
    assert.deepEqual([owner.count, owner.usedBytes, owner.pinnedBytes], [own.length, sum(own), sum(pinned)]);
    for (const each of classes)
      assert.equal(owner.bytesOf(each), sum(own.filter((entry) => entry.class === each)));
    const { quotaBytes = Infinity } = owner;
    assert(owner.usedBytes <= quotaBytes || owners.over.has(owner), 'the quota holds');
  }
}
