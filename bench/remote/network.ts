/**
 * A Redis behind a network that can be cut: in a network namespace of its own, behind a pair of virtual interfaces of
 * which one is put down. Where this process may not make one, behind a proxy that drops what it gets.
 */
import { execFileSync } from 'node:child_process';
import { RedisServer, type Scope, Wire } from '../redis-server.js';

const NAMESPACE = `radixkv-${process.pid}`;
const NEAR = `rkv${process.pid}a`.slice(0, 15);
const FAR = `rkv${process.pid}b`.slice(0, 15);
const NEAR_ADDRESS = '10.213.77.1';
const FAR_ADDRESS = '10.213.77.2';

export interface CutRedis {
  readonly redis: RedisServer;
  /** As a node reaches it. */
  readonly url: string;
  readonly kind: 'network namespace' | 'proxy';
  readonly cut: () => void;
  readonly mend: () => void;
}

function ip(...words: readonly string[]): void {
  execFileSync('ip', words, { stdio: 'ignore' });
}

function makeNetwork(scope: Scope): boolean {
  try {
    ip('netns', 'add', NAMESPACE);
  } catch {
    return false;
  }
  scope.after(async () => ip('netns', 'delete', NAMESPACE));
  try {
    ip('link', 'add', NEAR, 'type', 'veth', 'peer', 'name', FAR);
    ip('link', 'set', FAR, 'netns', NAMESPACE);
    ip('addr', 'add', `${NEAR_ADDRESS}/24`, 'dev', NEAR);
    ip('link', 'set', NEAR, 'up');
    ip('-n', NAMESPACE, 'addr', 'add', `${FAR_ADDRESS}/24`, 'dev', FAR);
    ip('-n', NAMESPACE, 'link', 'set', FAR, 'up');
    ip('-n', NAMESPACE, 'link', 'set', 'lo', 'up');
    return true;
  } catch {
    return false;
  }
}

export async function cutRedis(scope: Scope): Promise<CutRedis> {
  if (!makeNetwork(scope)) {
    const redis = await RedisServer.start(scope);
    const wire = await Wire.to(scope, redis.port);
    return { redis, url: wire.url, kind: 'proxy', cut: () => wire.cut(), mend: () => wire.mend() };
  }
  const prefix = ['ip', 'netns', 'exec', NAMESPACE];
  const redis = await RedisServer.start(scope, [], { host: FAR_ADDRESS, prefix });
  return {
    redis,
    url: redis.url,
    kind: 'network namespace',
    cut: () => ip('-n', NAMESPACE, 'link', 'set', FAR, 'down'),
    mend: () => ip('-n', NAMESPACE, 'link', 'set', FAR, 'up'),
  };
}
