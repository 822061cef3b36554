import assert from 'node:assert/strict';
import { test } from 'node:test';
import { formatBytes, parseBytes } from '../../src/config/bytes.js';
import { availableCores, defaultDataDirectory } from '../../src/config/machine.js';
import { parseServeOptions, SERVE_OPTION_ROWS } from '../../src/config/options.js';
import { RadixkvError } from '../../src/errors.js';

test('sizes are read with decimal, binary and no units, in any case', () => {
  const sizes: [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['17B', 17],
    ['512MiB', 512 * 1024 ** 2],
    ['2 gib', 2 * 1024 ** 3],
    ['1.5GB', 1_500_000_000],
    ['0.5KiB', 512],
    ['1kB', 1000],
    ['3TiB', 3 * 1024 ** 4],
  ];
  for (const [text, bytes] of sizes) assert.equal(parseBytes(text), bytes, text);
});

test('what is no size is refused, also the ambiguous 512M', () => {
  for (const text of ['', 'MiB', '-1', '1e9', '512M', '1.5.5GB', '1GiBs', '9999999TiB', 'NaN', '0x10']) {
    assert.throws(
      () => parseBytes(text),
      (error) =>
        error instanceof RadixkvError &&
        error.code === 'invalid_value' &&
        error.message.includes(`"${text}"`),
      text,
    );
  }
});

test('sizes are printed in the unit a person would choose', () => {
  assert.equal(formatBytes(0), '0 B');
  assert.equal(formatBytes(1023), '1023 B');
  assert.equal(formatBytes(1024), '1 KiB');
  assert.equal(formatBytes(1.5 * 1024 ** 3), '1.5 GiB');
  assert.equal(formatBytes(1024 ** 2 - 1), '1 MiB');
  assert.equal(formatBytes(5000 * 1024 ** 4), '5000 TiB');
});

test('without any text every option has its default', () => {
  const options = parseServeOptions();
  assert.equal(options.host, '127.0.0.1');
  assert.equal(options.port, 8080);
  assert.equal(options.model, 'smollm2-135m-instruct');
  assert.equal(options.weights, 'auto');
  assert.equal(options.deviceBytes, 1024 ** 3);
  assert.equal(options.hostBytes, 2 * 1024 ** 3);
  assert.equal(options.chunkTokens, 64);
  assert.equal(options.diskBytes, 8 * 1024 ** 3);
  assert.equal(options.diskKeyFile, undefined);
  assert.equal(options.threads, availableCores());
  assert.equal(options.modelsDir, `${options.dataDir}/models`);
});

test('the directories of models and chunks and the file of keys follow the data directory unless they are given', () => {
  assert.equal(parseServeOptions({ dataDir: '/srv/kv' }).modelsDir, '/srv/kv/models');
  assert.equal(parseServeOptions({ dataDir: '/srv/kv', modelsDir: '/models' }).modelsDir, '/models');
  assert.equal(parseServeOptions({ dataDir: '/srv/kv' }).keysFile, '/srv/kv/keys.sqlite');
  assert.equal(parseServeOptions({ dataDir: '/srv/kv', keysFile: '/keys/k' }).keysFile, '/keys/k');
  assert.equal(parseServeOptions({ dataDir: '/srv/kv' }).diskDir, '/srv/kv/cache');
  assert.equal(parseServeOptions({ dataDir: '/srv/kv', diskDir: '/cache' }).diskDir, '/cache');
});

test('every bad value is refused in one line that names the option and the value', () => {
  const bad = {
    host: ['', 'two words'],
    port: ['', '-1', '65536', '80.5', 'http'],
    requireKeys: ['yes', '1', ''],
    insecureNoKeys: ['TRUE', '0'],
    dataDir: [''],
    modelsDir: [''],
    keysFile: [''],
    model: [''],
    threads: ['0', 'many'],
    device: ['gpu', 'CPU', ''],
    weights: ['int2', 'FLOAT32'],
    deviceBytes: ['1MB', 'lots', ''],
    hostBytes: ['-1', '1G'],
    diskBytes: ['-1', 'all', '1MiB'],
    diskDir: [''],
    diskFreeBytes: ['-1'],
    diskCodec: ['float64', 'auto '],
    diskKeyFile: [''],
    remote: ['', 'redis', 'http://host', 'redis://a:b', 'redis://secret@host', 'redis+sentinel://host'],
    remoteTtl: ['0s', '24x', '1w', '999d', '-1', '0'],
    remoteNamespaceBytes: ['-1'],
    remoteDeadlineMs: ['0', 'soon'],
    remoteDeadlineMinMs: ['0'],
    remoteWritePolicy: ['write-back'],
    remoteQueueBytes: ['-1'],
    remoteCodec: ['int8'],
    remoteCaFile: [''],
    remoteCertFile: [''],
    remoteCertKeyFile: [''],
    writePolicy: ['write-around'],
    writeHits: ['0', '1001'],
    eviction: ['random'],
    breakEven: ['on'],
    segmentShare: ['1.5', '-1', 'half'],
    blendKlMax: ['-0.1', '1e9'],
    documentTemplateFile: [''],
    tileTokens: ['1', '0'],
    chunkTokens: ['7', '64.0'],
    maxActive: ['0'],
    maxQueue: ['-1', '1000000000000'],
    maxActiveTokens: ['0', '1e6'],
    maxQueueTokens: ['0'],
    tpotTargetMs: ['0', '1.5'],
    patienceMs: ['-1', '5s'],
    recentRequests: ['-1', '10001'],
    keepExcerpts: ['maybe'],
    logLevel: ['verbose', 'WARN'],
    otlpEndpoint: ['', 'collector:4318', 'grpc://collector:4317'],
    drainMs: ['-1', '30s'],
    flushMs: ['0', '1.5'],
  };
  assert.deepEqual(
    Object.keys(bad),
    SERVE_OPTION_ROWS.map((row) => row.key),
    'every option is tried',
  );
  for (const row of SERVE_OPTION_ROWS) {
    for (const text of bad[row.key]) {
      assert.throws(
        () => parseServeOptions({ [row.key]: text }),
        (error) => {
          assert.ok(error instanceof RadixkvError);
          assert.equal(error.code, 'invalid_value');
          assert.ok(error.message.startsWith(`${row.flags.split(' ')[0]} must `), error.message);
          const isShown = error.message.endsWith(`got "${text}"`);
          assert.ok(isShown === !row.isSecret && !error.message.includes('\n'), error.message);
          assert.ok(!row.isSecret || !error.message.includes('secret'), error.message);
          return true;
        },
        `${row.key}=${text}`,
      );
    }
  }
});

test('the environment variable of an option is its flag in capitals', () => {
  const names = Object.fromEntries(SERVE_OPTION_ROWS.map((row) => [row.key, row.environment]));
  assert.equal(names.port, 'RADIXKV_PORT');
  assert.equal(names.deviceBytes, 'RADIXKV_DEVICE_BYTES');
  assert.equal(new Set(Object.values(names)).size, SERVE_OPTION_ROWS.length);
});

test('the data directory is the one of the operating system', () => {
  assert.equal(defaultDataDirectory({ XDG_DATA_HOME: '/x' }, 'linux'), '/x/radixkv');
  assert.match(defaultDataDirectory({}, 'linux'), /\/\.local\/share\/radixkv$/);
  assert.match(
    defaultDataDirectory({ XDG_DATA_HOME: '' }, 'darwin'),
    /\/Library\/Application Support\/radixkv$/,
  );
});

test('keys can be required, or left out beyond this machine, but not both', () => {
  assert.deepEqual(
    [{}, { requireKeys: 'true' }, { insecureNoKeys: 'true' }].map((texts) => {
      const { requireKeys, insecureNoKeys } = parseServeOptions(texts);
      return [requireKeys, insecureNoKeys];
    }),
    [
      [false, false],
      [true, false],
      [false, true],
    ],
  );
  assert.throws(() => parseServeOptions({ requireKeys: 'true', insecureNoKeys: 'true' }), {
    code: 'invalid_value',
    message: /--require-keys and --insecure-no-keys/,
  });
});
