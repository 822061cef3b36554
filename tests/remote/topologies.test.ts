/** Cluster, Sentinel, TLS with a certificate of one's own, and ACL: real servers, the whole service over the tiny model. */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../bench/free-port.js';
import { RedisServer, type Scope, until } from '../../bench/redis-server.js';
import type { RemoteOptions } from '../../src/cache/create-tiers.js';
import { ask, testBackend } from '../support/backend.js';
import { redisTest } from '../support/redis-test.js';
import { node, remoteAt, remoteOf, written } from '../support/remote-backend.js';

const run = promisify(execFile);
const openssl = (...options: readonly string[]) => run('openssl', options);
const PROMPT =
  'a prompt that fills several chunks of sixteen tokens each, and then some more for good measure.';
const WHOLE = Math.floor((PROMPT.length - 1) / 16) * 16;

/** What one node computed the other hits. */
async function shares(t: Scope, remoteTier: RemoteOptions, question = PROMPT): Promise<void> {
  const first = await node(t, remoteTier);
  const cold = await ask(first, { prompt: question });
  await written(first);
  const second = await node(t, remoteTier);
  const warm = await ask(second, { prompt: question });
  assert(warm.usage.cachedTokens.remote >= WHOLE - 16, JSON.stringify(remoteOf(first)));
  assert.equal(warm.text, cold.text);
}

/** Ports of a Cluster's nodes, whose buses are 10,000 higher. */
async function clusterPort(): Promise<number> {
  for (;;) {
    const port = await freePort();
    if (port < 55_000) return port;
  }
}

redisTest(
  'Cluster: chunks of a prompt are on several masters, and found; where one is gone, everything is computed',
  async (t) => {
    const servers: RedisServer[] = [];
    for (let i = 0; i < 3; i++) {
      const options = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000'];
      servers.push(await RedisServer.start(t, options, { port: await clusterPort() }));
    }
    const addresses = servers.map(({ port }) => `127.0.0.1:${port}`);
    await run('redis-cli', ['--cluster', 'create', ...addresses, '--cluster-replicas', '0', '--cluster-yes']);
    for (const server of servers)
      await until(
        async () => (await server.ask('CLUSTER', 'INFO')).includes('cluster_state:ok'),
        'the Cluster is complete',
      );
    const remoteTier = remoteAt(`redis+cluster://${addresses.slice(0, 2).join(',')}`, {
      namespaceBytes: 1 << 24,
    });
    await shares(t, remoteTier, PROMPT.repeat(4));
    const counts = await Promise.all(servers.map(async (server) => (await server.chunks()).length));
    assert(counts.filter((count) => count > 0).length >= 2, String(counts));
    const backend = await node(t, { ...remoteTier, deadline: { msMin: 500, msMax: 500 } });
    await servers[2]!.kill();
    for (let i = 0; i < 3; i++) await ask(backend, { prompt: `${i}${PROMPT.repeat(3)}` });
    await until(() => remoteOf(backend).trips > 0, 'it is left alone');
    assert.equal(backend.cache.audit().leases, 0);
  },
);

redisTest('Sentinel: after a failover nodes go on with the new master', async (t) => {
  const auth = ['--requirepass', 'secret', '--masterauth', 'secret'];
  const cli = ['-a', 'secret', '--no-auth-warning'];
  const master = await RedisServer.start(t, auth, { cli });
  const replica = await RedisServer.start(t, [...auth, '--replicaof', `127.0.0.1 ${master.port}`], { cli });
  const directory = mkdtempSync(join(tmpdir(), 'radixkv-sentinel-'));
  const config = join(directory, 'sentinel.conf');
  writeFileSync(
    config,
    [
      `sentinel monitor kv 127.0.0.1 ${master.port} 1`,
      'sentinel auth-pass kv secret',
      'requirepass watchful',
      'sentinel down-after-milliseconds kv 1000',
      'sentinel failover-timeout kv 3000',
      '',
    ].join('\n'),
  );
  const sentinel = await RedisServer.start(t, [], { config, cli: ['-a', 'watchful', '--no-auth-warning'] });
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  await until(async () => {
    return (await sentinel.ask('SENTINEL', 'REPLICAS', 'kv')).includes(String(replica.port));
  }, 'the Sentinel knows the replica');
  const remoteTier = remoteAt(`redis+sentinel://:secret@127.0.0.1:${sentinel.port}/kv?sentinel=:watchful`);
  await shares(t, remoteTier);
  const backend = await node(t, { ...remoteTier, deadline: { msMin: 500, msMax: 500 } });
  await master.kill();
  for (let i = 0; i < 3; i++) await ask(backend, { prompt: `${i} while it fails over: ${PROMPT}` });
  await until(async () => (await replica.ask('ROLE')).startsWith('master'), 'the replica is the master');
  await until(() => remoteOf(backend).state === 'closed', 'the node is connected again');
  const { stored } = remoteOf(backend).writes;
  await until(async () => {
    await ask(backend, { prompt: `${Math.random()} afterwards: ${PROMPT}` });
    await written(backend);
    return remoteOf(backend).writes.stored! > stored!;
  }, 'the new master is written');
});

redisTest(
  'TLS with a certificate of an authority of our own, a client certificate, and an ACL user',
  async (t) => {
    const directory = mkdtempSync(join(tmpdir(), 'radixkv-tls-'));
    t.after(() => rmSync(directory, { recursive: true, force: true }));
    const at = (name: string) => join(directory, name);
    const subject = ['-days', '2', '-subj'];
    const authority = [
      '-newkey',
      'rsa:2048',
      '-nodes',
      '-x509',
      '-keyout',
      at('ca.key'),
      '-out',
      at('ca.crt'),
    ];
    await openssl('req', ...authority, ...subject, '/CN=our authority');
    writeFileSync(at('names'), 'subjectAltName=IP:127.0.0.1');
    for (const name of ['server', 'client']) {
      const request = [
        '-newkey',
        'rsa:2048',
        '-nodes',
        '-keyout',
        at(`${name}.key`),
        '-out',
        at(`${name}.csr`),
      ];
      await openssl('req', ...request, '-subj', `/CN=${name}`);
      const signed = [
        '-CA',
        at('ca.crt'),
        '-CAkey',
        at('ca.key'),
        '-CAcreateserial',
        '-extfile',
        at('names'),
      ];
      await openssl(
        'x509',
        '-req',
        '-in',
        at(`${name}.csr`),
        '-out',
        at(`${name}.crt`),
        '-days',
        '2',
        ...signed,
      );
    }
    const port = await freePort();
    const cert = (name: string) => [`${name}.crt`, `${name}.key`, 'ca.crt'].map(at);
    const flags = ['cert', 'key', 'ca'] as const;
    const redis = await RedisServer.start(
      t,
      [
        '--tls-port',
        String(port),
        '--port',
        '0',
        ...flags.flatMap((flag, i) => {
          return [`--tls-${flag}${flag === 'ca' ? '-cert' : ''}-file`, cert('server')[i]!];
        }),
      ],
      {
        port,
        cli: [
          '--tls',
          ...flags.flatMap((flag, i) => [flag === 'ca' ? '--cacert' : `--${flag}`, cert('client')[i]!]),
        ],
      },
    );
    await redis.ask(
      'ACL',
      'SETUSER',
      'kv',
      'on',
      '>p@ss:word/1',
      '~radixkv:*',
      '-@all',
      '+@connection',
      '+exists',
      '+get',
      '+set',
      '+unlink',
      '+hgetall',
      '+hincrby',
      '+hdel',
      '+pexpire',
      '+ping',
    );
    await redis.ask('ACL', 'SETUSER', 'default', 'off');
    const [clientCert, clientKey, ca] = cert('client').map((file) => readFileSync(file, 'utf8'));
    const tls = { ca, cert: clientCert, key: clientKey };
    const url = `rediss://kv:${encodeURIComponent('p@ss:word/1')}@127.0.0.1:${port}`;
    await shares(t, remoteAt(url, { tls, namespaceBytes: 1 << 24 }));
    for (const wrong of [
      remoteAt(url, { tls: { ...tls, ca: undefined } }),
      remoteAt(`rediss://kv:wrong@127.0.0.1:${port}`, { tls }),
    ]) {
      const backend = await testBackend(t, { remoteTier: wrong });
      await until(() => {
        const { errors } = remoteOf(backend);
        return errors.denied! + errors.disconnected! > 0;
      }, 'it is refused');
      assert.equal((await ask(backend, { prompt: PROMPT })).usage.cachedTokens.remote, 0);
    }
  },
);
