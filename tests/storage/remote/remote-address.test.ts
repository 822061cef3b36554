import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseRemoteAddress, shownAddress } from '#storage';

test('URLs of one server, Sentinel and Cluster, with and without TLS, names and passwords', () => {
  const cases = {
    'redis://host': 'redis://host:6379',
    'valkey://host:7000/3': 'redis://host:7000/3',
    'rediss://name:p%40ss@host:6380': 'rediss://host:6380',
    'redis://:p@ss@host': undefined,
    'redis://:pass@[::1]:6379/1': 'redis://[::1]:6379/1',
    'redis+sentinel://a,b:7/kv/2': 'redis+sentinel://a:26379,b:7/kv/2',
    'redis+sentinel://:x@a/kv?sentinel=s:y': 'redis+sentinel://a:26379/kv',
    'redis+sentinel://a/kv?sentinel=s': undefined,
    'redis://a?sentinel=s:y': undefined,
    'redis+sentinel://a/kv?other=s:y': undefined,
    'rediss+cluster://:x@a,b:7': 'rediss+cluster://a:6379,b:7',
    'redis+cluster://a/1': undefined,
    'redis+sentinel://a': undefined,
    'redis://a,b': undefined,
    'redis://name@host': undefined,
    'redis://host:0': undefined,
    'redis://host/x': undefined,
    'redis://host/1/2': undefined,
    'redis://:%zz@host': undefined,
    'http://host': undefined,
    'redis://': undefined,
  };
  for (const [url, shown] of Object.entries(cases)) {
    const address = parseRemoteAddress(url);
    assert.equal(address && shownAddress(address), shown, url);
  }
});

test('names and passwords are decoded, and not shown', () => {
  const address = parseRemoteAddress('rediss://kv%3A1:p%40s:s%2F@host')!;
  assert.deepEqual([address.username, address.password, address.isTls], ['kv:1', 'p@s:s/', true]);
  assert(!/kv|p@s|s\//.test(shownAddress(address).replace('rediss://', '')));
});
