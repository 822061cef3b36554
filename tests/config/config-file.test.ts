import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { stringify } from 'yaml';
import { z } from 'zod';
import { parseConfig, parseConfigOptions, readConfigFile } from '../../src/config/config-file.js';
import { withoutCredentials } from '../../src/config/credentials.js';
import { shownOptions } from '../../src/config/describe.js';
import { isServiceLink, refuseUnknownVariables } from '../../src/config/environment.js';
import { configFileSchema } from '../../src/config/file-schema.js';
import { suggestion } from '../../src/config/nearest-name.js';
import { fileKeyOf, parseServeOptions, SERVE_OPTION_ROWS } from '../../src/config/options.js';

const FILE = '/etc/radixkv/config.yaml';
const textsOf = (text: string) =>
  Object.fromEntries([...parseConfig(text, FILE)].map(([key, entry]) => [key, entry.text]));

test('a file holds what one would write behind the flags, in YAML or JSON, and paths relative to its folder', () => {
  const yaml = `# mine
port: 80        # as root
host-bytes: 1.5GB
require-keys: true
model: "123"
data-dir: data
disk-key-file: /run/key
segment-share: 0.25
`;
  const texts = {
    port: '80',
    hostBytes: '1.5GB',
    requireKeys: 'true',
    model: '123',
    dataDir: '/etc/radixkv/data',
    diskKeyFile: '/run/key',
    segmentShare: '0.25',
  };
  assert.deepEqual(textsOf(yaml), texts);
  const json =
    '{\n\t"port": 80, "host-bytes": "1.5GB", "require-keys": true, "model": "123",\n\t"data-dir": "data",' +
    ' "disk-key-file": "/run/key", "segment-share": 0.25\n}';
  assert.deepEqual(textsOf(json), texts);
  for (const empty of ['', '# nothing\n', '{}']) assert.deepEqual(textsOf(empty), {});
});

test('whatever is not an option with a value is refused with its line', () => {
  const bad: [string, RegExp][] = [
    ['port: 1\nprot: 2\n', /^\/etc\/radixkv\/config\.yaml:2: unknown key "prot" \(did you mean "port"\?\)$/],
    ['deviceBytes: 1GiB', /:1: unknown key "deviceBytes" \(did you mean "device-bytes"\?\)/],
    ['device_bytes: 1GiB', /:1: unknown key "device_bytes" \(did you mean "device-bytes"\?\)/],
    ['--port: 1', /:1: unknown key "--port" \(did you mean "port"\?\)/],
    ['config: other.yaml', /:1: unknown key "config"$/],
    ['constructor: 1', /:1: unknown key "constructor"$/],
    ['__proto__: {port: 1}', /:1: unknown key "__proto__"$/],
    ['<<: {port: 1}', /:1: unknown key "<<"$/],
    ['port: 1\nport: 2\n', /:2: .*unique/],
    ['host: x\nport:\n', /:2: port has no value; leave the key out/],
    ['port: ~', /:1: port has no value/],
    ['disk-key-file: null', /:1: disk-key-file has no value/],
    ['model: [a, b]', /:1: model must be a text/],
    ['model: {a: b}', /:1: model must be a text/],
    ['model: &x a\nhost: *x', /:2: host must be a text/],
    ['model: !!binary aGk=', /:1: model must be a text/],
    ['? [port]\n: 1', /:1: a key must be the name of an option/],
    ['- port', /: must hold a mapping/],
    ['port', /: must hold a mapping/],
    ['port: 1\n---\nport: 2\n', /:2: .*multiple documents/],
    ['port: [', /:1: /],
  ];
  for (const [text, message] of bad) {
    assert.throws(() => parseConfig(text, FILE), { code: 'invalid_value', message }, text);
    assert.throws(() => parseConfig(text, FILE), { message: /^[^\n]+$/ }, `${text}: one line`);
  }
});

test('a value that its option refuses is refused with the line', () => {
  for (const [text, message] of [
    ['\nport: http', /config\.yaml:2: port must be a whole number from 0 to 65535, got "http"/],
    ['host-bytes: 2G', /config\.yaml:1: host-bytes must be a size such as .*, got "2G"/],
    ['require-keys: yes', /config\.yaml:1: require-keys must be one of true, false, got "yes"/],
    ['port: 0x50', /config\.yaml:1: port must be a whole number/],
  ] as const)
    assert.throws(
      () => parseConfigOptions(parseConfig(text, FILE)),
      { code: 'invalid_value', message },
      text,
    );
});

test('a file that is not there or too large is refused', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'radixkv-config-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const file = join(directory, 'large.yaml');
  writeFileSync(file, '#'.repeat(1024 ** 2 + 1));
  assert.throws(() => readConfigFile(file), { code: 'invalid_value', message: /larger than 1048576 bytes/ });
  assert.throws(() => readConfigFile(directory), {
    code: 'invalid_value',
    message: /--config can't be read/,
  });
});

test('what is shown reads back to the same options', () => {
  const texts = {
    port: '0',
    requireKeys: 'true',
    model: '123',
    host: '::1',
    hostBytes: '1.5GB',
    diskKeyFile: '/run/a: b #c',
    blendKlMax: '0.001',
    otlpEndpoint: 'http://collector:4318/x',
  };
  const options = parseServeOptions(texts);
  for (const shown of [shownOptions(options), shownOptions(options, texts)]) {
    for (const text of [stringify(shown), JSON.stringify(shown)])
      assert.deepEqual(parseConfigOptions(parseConfig(text, FILE)), options);
  }
  assert.equal(shownOptions(options, texts)['host-bytes'], '1.5GB');
});

test('credentials in addresses are hidden, in errors too', () => {
  assert.equal(withoutCredentials('redis://me:p@ss@host:1/0'), 'redis://[hidden]@host:1/0');
  assert.equal(withoutCredentials('https://host/x?token=secret'), 'https://host/x?[hidden]');
  for (const text of ['http://host:1/a@b', '127.0.0.1', 'a@b', ''])
    assert.equal(withoutCredentials(text), text);
  const options = parseServeOptions({ otlpEndpoint: 'http://me:secret@host?k=secret' });
  assert.doesNotMatch(JSON.stringify(shownOptions(options)), /secret/);
  assert.throws(() => parseServeOptions({ otlpEndpoint: 'ftp://me:secret@host' }), {
    message: /otlp-endpoint must be .* got "ftp:\/\/\[hidden\]@host"$/,
  });
});

test('a variable of ours that means nothing is refused, and those of others are let be', () => {
  refuseUnknownVariables({
    PATH: '',
    RADIXKVX: '',
    RADIXKV_PORT: '1',
    RADIXKV_CONFIG: '',
    RADIXKV_API_KEY: '',
    RADIXKV_DISK_KEY: '',
    RADIXKV_DEBUG: '',
    RADIXKV_SERVICE_HOST: '',
    RADIXKV_GPU_SERVICE_PORT_HTTP: '',
    RADIXKV_PORT_8080_TCP_ADDR: '',
  });
  assert.throws(() => refuseUnknownVariables({ RADIXKV_DEVICE_BYTE: '1' }), {
    code: 'invalid_value',
    message: 'RADIXKV_DEVICE_BYTE in the environment means nothing (did you mean "RADIXKV_DEVICE_BYTES"?)',
  });
  assert.throws(() => refuseUnknownVariables({ RADIXKV_COLOUR: '1' }), { message: /means nothing$/ });
  assert(isServiceLink('RADIXKV_PORT', 'tcp://10.0.0.1:8080'));
  assert(!isServiceLink('RADIXKV_PORT', '8080'));
  assert(!isServiceLink('RADIXKV_HOST', 'tcp://10.0.0.1:8080'));
});

test('every option may be written in the environment though Kubernetes names variables like ours', () => {
  for (const { environment } of SERVE_OPTION_ROWS) assert(!isServiceLink(environment, '1'));
});

test('a name is suggested only where it is similar', () => {
  assert.equal(suggestion('maxActve', ['max-active', 'max-queue']), ' (did you mean "max-active"?)');
  assert.equal(suggestion('x', ['ab', 'y']), '');
  assert.equal(suggestion('colour', ['port', 'host']), '');
});

test('the schema has every option, with the values it may have', () => {
  const property = z.object({
    type: z.unknown(),
    enum: z.array(z.unknown()).optional(),
    description: z.string(),
  });
  const schema = z
    .object({ additionalProperties: z.boolean(), properties: z.record(z.string(), property) })
    .parse(configFileSchema());
  assert.equal(schema.additionalProperties, false);
  assert.deepEqual(Object.keys(schema.properties), SERVE_OPTION_ROWS.map(fileKeyOf));
  const { port, eviction, 'require-keys': requireKeys } = schema.properties;
  assert.deepEqual(port!.type, ['string', 'number']);
  assert.deepEqual([eviction!.enum?.includes('lru'), eviction!.type], [true, 'string']);
  assert.deepEqual(requireKeys!.enum, [true, false, 'true', 'false']);
  assert.match(port!.description, /\(default: 8080\)$/);
});
