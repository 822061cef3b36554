import assert from 'node:assert/strict';
import { test } from 'node:test';
import { testKeys } from '../support/key-files.js';

const REFUSED = { code: 'invalid_api_key' };

test('without a key nobody needs one, unless keys are required', (t) => {
  const keys = testKeys(t);
  assert.equal(keys.ring().admit('anything'), undefined);
  assert.equal(keys.ring().admit(''), undefined);
  const strict = keys.ring({ isRequired: true });
  assert.throws(() => strict.admit(''), { ...REFUSED, message: /is needed/ });
  assert.throws(() => strict.admit('anything'), { ...REFUSED, message: /not known/ });
});

test('a ring that is open sees keys that are made, revoked and limited elsewhere', (t) => {
  const keys = testKeys(t);
  const ring = keys.ring();
  assert.equal(ring.admit(''), undefined);
  const [user, admin] = [keys.create('a'), keys.create('b', 'admin')];
  assert.throws(() => ring.admit(''), REFUSED);
  const holder = ring.admit(user)!;
  assert.deepEqual([holder.tenant.name, holder.role], ['a', 'user']);
  assert.equal(ring.admit(admin)!.role, 'admin');
  keys.file.setLimits('a', { requestsPerMinute: 7, tokensPerMinute: 8 });
  assert.equal(ring.admit(user)!.tenant.requestsPerMinute, 7);
  keys.file.revokeKey(user.slice(0, 11), 1);
  assert.throws(() => ring.admit(user), REFUSED);
  assert.equal(ring.admit(admin)!.tenant.name, 'b');
});

test('when the last key is revoked nobody comes in, also after a restart', (t) => {
  const keys = testKeys(t);
  const text = keys.create('a');
  const ring = keys.ring();
  keys.file.revokeKey(text.slice(0, 11), 1);
  for (const each of [ring, keys.ring()]) {
    for (const credentials of ['', text]) assert.throws(() => each.admit(credentials), REFUSED);
  }
});

test('only the whole key is one: no change, part or addition, nor the id or the hash of it', (t) => {
  const keys = testKeys(t);
  const text = keys.create('a');
  const other = keys.create('b');
  const ring = keys.ring();
  const changed = Array.from(text, (character, at) => {
    return `${text.slice(0, at)}${character === 'A' ? 'B' : 'A'}${text.slice(at + 1)}`;
  });
  const hash = keys.file.keys()[0]!.hash;
  const wrong = [
    ...changed,
    text.slice(0, -1),
    `${text}A`,
    text.slice(0, 11),
    text.slice(11),
    text.slice(0, 11) + other.slice(11),
    text.toUpperCase(),
    hash.toString('hex'),
    hash.toString('latin1'),
    '__proto__',
  ];
  for (const credentials of wrong) assert.throws(() => ring.admit(credentials), REFUSED, credentials);
  assert.equal(ring.admit(text)!.tenant.name, 'a');
});
