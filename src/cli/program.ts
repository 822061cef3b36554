/** The commands of `radixkv` and their help. */
import { Command } from 'commander';
import { systemClock } from '../model/clock.js';
import { PLAN_OPTION_ROWS, planFlag } from '../plan/plan-options.js';
import { ROLES } from '../tenants/tenant.js';
import { packageVersion } from '../version.js';
import { type ExportChoices, runExport, runImportArchive } from './archives.js';
import { type CalibrateChoices, runCalibrate } from './calibrate.js';
import { CONFIG_FORMATS, runCheckConfig, runConfigSchema, runPrintConfig } from './config.js';
import { runDoctor } from './doctor.js';
import { addOptions, readOptions, readSettings } from './flags.js';
import {
  type LimitTexts,
  runCreateKey,
  runListKeys,
  runListTenants,
  runRevokeKey,
  runSetTenant,
} from './keys.js';
import { runImport, runList, runRemove } from './models.js';
import { type PlanChoices, runPlan } from './plan.js';
import { runServe } from './serve.js';
import { DEFAULT_URL, type ServerAddress } from './server-address.js';
import type { Terminal } from './terminal.js';
import { runTop } from './top.js';

/** Throws `CommanderError` instead of ending the process. */
export function createProgram(terminal: Terminal): Command {
  const program = new Command('radixkv')
    .description(
      'Serves a language model over an OpenAI-compatible API and never computes KV it already has.',
    )
    .version(packageVersion())
    .exitOverride()
    .configureOutput({
      outputError: (text, write) =>
        write(
          `${text
            .replace(/^error: /, 'radixkv: ')
            .replaceAll(/\s*\n\s*/g, ' ')
            .trim()}\n`,
        ),
    });

  addOptions(program.command('serve'))
    .description('serve a model; gets and imports the default model when it is missing')
    .action(async (_flags: unknown, command: Command) => runServe(readOptions(command), terminal));

  addModelCommands(program.command('model').description('import, measure, list and remove models'), terminal);

  addKeyCommands(program.command('keys').description('create, list and revoke API keys'), terminal);
  addTenantCommands(
    program.command('tenants').description('list tenants, and limit what each may ask for'),
    terminal,
  );

  addCacheCommands(
    program.command('cache').description('move KV between running servers, as files'),
    terminal,
  );

  addConfigCommands(
    program.command('config').description('show the options in force, check a configuration file'),
    terminal,
  );

  addOptions(program.command('doctor'))
    .description('check this machine for serving with these options; say how to fix what is wrong')
    .option('--json', 'print the result as JSON')
    .action(async (flags: { json?: boolean }, command: Command) => {
      const healthy = await runDoctor(readOptions(command), flags.json === true, terminal);
      if (!healthy) process.exitCode = 1;
    });

  program
    .command('top')
    .description('show what a running server does: hit rate by tier, budgets, requests, tokens per second')
    .option('--url <url>', 'address of the server', DEFAULT_URL)
    .option('--once', 'print the numbers once, for scripts')
    .addHelpText('after', KEY_NOTE)
    .action(async (flags: { url: string; once?: boolean }) => {
      const answered = await runTop(
        addressOf(flags),
        { once: flags.once === true, clock: systemClock },
        terminal,
      );
      if (!answered) process.exitCode = 1;
    });

  addPlanCommand(program.command('plan'), terminal);

  return program.addHelpText(
    'after',
    '\nEvery option can also be set in the environment, see "radixkv serve --help", or in a file, see "radixkv config --help".',
  );
}

function addPlanCommand(plan: Command, terminal: Terminal): void {
  const places = ['dataDir', 'modelsDir', 'model', 'chunkTokens'] as const;
  addOptions(plan, [...places, 'deviceBytes', 'hostBytes', 'diskBytes']).description(
    'plan capacity: what a load of users needs of memory, disk, network and Redis, with the arithmetic',
  );
  for (const { key, placeholder, description, defaultText } of PLAN_OPTION_ROWS)
    plan.option(`${planFlag(key)} ${placeholder}`, description, defaultText);
  plan
    .option('--url <url>', 'a running server, whose measured speeds are taken')
    .option('--json', 'print the result as JSON')
    .addHelpText('after', '\nAn API key in RADIXKV_API_KEY is sent along to --url.')
    .action(async (choices: PlanChoices, command: Command) =>
      runPlan(readOptions(command), choices, process.env.RADIXKV_API_KEY, terminal),
    );
}

function addConfigCommands(config: Command, terminal: Terminal): void {
  addOptions(config.command('print'))
    .description('print the options in force, as a file that --config takes')
    .option('--format <format>', `one of ${CONFIG_FORMATS.join(', ')}`, 'yaml')
    .option('--sources', 'say where each value is from')
    .action((flags: { format: string; sources?: boolean }, command: Command) =>
      runPrintConfig(readSettings(command), flags, terminal),
    );
  config
    .command('check <file>')
    .description('check a configuration file, and nothing else')
    .action((file: string) => runCheckConfig(file, terminal));
  config
    .command('schema')
    .description('print the JSON Schema of configuration files, for editors')
    .action(() => runConfigSchema(terminal));
}

function addModelCommands(model: Command, terminal: Terminal): void {
  const places = ['dataDir', 'modelsDir'] as const;
  addOptions(model.command('import <source>'), [...places, 'weights'])
    .description('import a model: a .gguf file, a directory in Hugging Face layout, or one from the Hub')
    .option('--name <name>', 'name to serve it under (default: from the source)')
    .option('--force', 'import again and replace a model of that name')
    .addHelpText(
      'after',
      `
Sources:
  smollm2-135m-instruct                the default model
  hf:org/name[@revision]               safetensors, or a GGUF file, of a Hub repository
  hf:org/name/file.gguf[@revision]     one GGUF file of it
  path/to/file.gguf, path/to/directory

HF_ENDPOINT and HF_TOKEN are honoured. Interrupted downloads go on where they stopped.`,
    )
    .action(async (source: string, flags: { name?: string; force?: boolean }, command: Command) =>
      runImport(source, readOptions(command), { name: flags.name, force: flags.force === true }, terminal),
    );
  addOptions(model.command('calibrate <name>'), [...places, 'threads', 'blendKlMax'])
    .description('measure what blending does to the answers of a model, for cache.mode auto to go by')
    .option('--data <file>', 'passages and questions to measure on (default: those that come along)')
    .option('--questions <count>', 'questions to measure', '12')
    .option('--passages <count>', 'passages in each prompt', '8')
    .action(async (name: string, flags: CalibrateChoices, command: Command) =>
      runCalibrate({ ...readOptions(command), model: name }, flags, terminal),
    );
  addOptions(model.command('list'), places)
    .description('list imported models')
    .option('--json', 'print the result as JSON')
    .action(async (flags: { json?: boolean }, command: Command) =>
      runList(readOptions(command), flags.json === true, terminal),
    );
  addOptions(model.command('remove <name>'), places)
    .description('remove an imported model')
    .action(async (name: string, _flags: unknown, command: Command) =>
      runRemove(name, readOptions(command), terminal),
    );
}

function addKeyCommands(keys: Command, terminal: Terminal): void {
  addOptions(keys.command('create'), ['dataDir', 'keysFile'])
    .description('create a key and print it; this is the only time that it is shown')
    .requiredOption('--tenant <name>', 'whose key it is; a tenant shares KV and documents with nobody')
    .option('--role <role>', `one of ${ROLES.join(', ')}; an admin may also control the server`, 'user')
    .action((flags: { tenant: string; role: string }, command: Command) =>
      runCreateKey(readOptions(command), flags, terminal),
    );
  addOptions(keys.command('list'), ['dataDir', 'keysFile'])
    .description('list all keys, revoked ones too')
    .option('--json', 'print the result as JSON')
    .action((flags: { json?: boolean }, command: Command) =>
      runListKeys(readOptions(command), flags.json === true, terminal),
    );
  addOptions(keys.command('revoke <id>'), ['dataDir', 'keysFile'])
    .description('revoke a key: requests with it are refused from now on')
    .action((id: string, _flags: unknown, command: Command) =>
      runRevokeKey(id, readOptions(command), terminal),
    );
}

const KEY_NOTE = '\nAn API key in RADIXKV_API_KEY is sent along.';

function addressOf({ url }: { readonly url: string }): ServerAddress {
  return { url, key: process.env.RADIXKV_API_KEY };
}

function addCacheCommands(cache: Command, terminal: Terminal): void {
  cache
    .command('export <file>')
    .description('write what a server has cached to a file, for another one to import')
    .option('--url <url>', 'address of the server', DEFAULT_URL)
    .option('--prompt <text>', 'only the KV of this prompt')
    .option('--messages <file>', 'only the KV of a chat: JSON of its messages')
    .option('--cache-salt <salt>', 'the part of the cache that a salt sets apart')
    .option('--tenant <name>', 'of another tenant, or * for all; for admins')
    .addHelpText('after', KEY_NOTE)
    .action((file: string, flags: ExportChoices & { url: string }) =>
      runExport(file, addressOf(flags), flags, terminal),
    );
  cache
    .command('import <file>')
    .description('have a server take in such a file')
    .option('--url <url>', 'address of the server', DEFAULT_URL)
    .option('--tenant <name>', 'for another tenant, or * for all of the file; for admins')
    .addHelpText('after', KEY_NOTE)
    .action((file: string, flags: Pick<ExportChoices, 'tenant'> & { url: string }) =>
      runImportArchive(file, addressOf(flags), flags, terminal),
    );
}

function addTenantCommands(tenants: Command, terminal: Terminal): void {
  addOptions(tenants.command('list'), ['dataDir', 'keysFile'])
    .description('list tenants with their limits')
    .option('--json', 'print the result as JSON')
    .action((flags: { json?: boolean }, command: Command) =>
      runListTenants(readOptions(command), flags.json === true, terminal),
    );
  addOptions(tenants.command('set <name>'), ['dataDir', 'keysFile'])
    .description('limit what all keys of a tenant together may ask for')
    .option('--requests-per-minute <number>', 'requests that may begin in a minute, or none for no limit')
    .option('--tokens-per-minute <number>', 'prompt tokens in a minute, or none for no limit')
    .option('--host-bytes <size>', 'host memory that its KV may take, or none for no limit')
    .option('--disk-bytes <size>', 'likewise of the disk')
    .option('--shared <on|off>', 'whether it reads the KV of public texts that an admin declared')
    .action((name: string, flags: LimitTexts, command: Command) =>
      runSetTenant(name, flags, readOptions(command, ['dataDir', 'keysFile']), terminal),
    );
}
