/** `radixkv serve`: make sure of keys and model, start, say how to try it, stop on a signal. */
import { constants } from 'node:os';
import type { ServeOptions } from '../config/options.js';
import { startRadixkv } from '../server.js';
import { hasKeys } from '../tenants/key-file.js';
import { requireGuard } from '../tenants/reach.js';
import { ensureModel, openRegistry } from './models.js';
import type { Terminal } from './terminal.js';

/**
 * Resolves after a graceful stop. A second signal ends the process at once; a stop that takes longer than `drainMs` and
 * `flushMs` is killed.
 */
export async function runServe(
  options: ServeOptions,
  terminal: Terminal,
  start: typeof startRadixkv = startRadixkv,
): Promise<void> {
  const needsKeys = await guard(options, terminal);
  const model = await ensureModel(openRegistry(options), options, terminal);
  terminal.note(`starting ${model.name}`);
  const server = await start(options, model.directory);
  terminal.print(`radixkv serves ${model.name} at ${server.url}`);
  terminal.print(`Try it:\n${curlLine(server.url, model.name, needsKeys)}`);
  const signal = await firstSignal();
  terminal.note(`${signal}: finishing the requests under way; once more to stop at once`);
  process.once('SIGINT', exitAtOnce).once('SIGTERM', exitAtOnce);
  const { drainMs, flushMs } = options;
  const timer = setTimeout(() => {
    terminal.note(`radixkv: not done ${drainMs + flushMs} ms after the signal; ending at once`);
    endAtOnce('SIGKILL', 1);
  }, drainMs + flushMs);
  await server.close();
  clearTimeout(timer);
  process.off('SIGINT', exitAtOnce).off('SIGTERM', exitAtOnce);
}

/** Whether requests need a key. @throws RadixkvError `invalid_value` when others could come in without one. */
async function guard(options: ServeOptions, terminal: Terminal): Promise<boolean> {
  const { host, requireKeys, insecureNoKeys, keysFile } = options;
  const isThere = hasKeys(keysFile);
  await requireGuard({ host, insecureNoKeys, needsKeys: requireKeys || isThere });
  if (requireKeys && !isThere) {
    terminal.note('there is no key yet; make one with: radixkv keys create --tenant <name>');
  }
  return requireKeys || isThere;
}

/** A shell line that asks the server something. */
export function curlLine(url: string, model: string, needsKey: boolean): string {
  const body = { model, messages: [{ role: 'user', content: 'What is a radix tree?' }], max_tokens: 64 };
  const key = needsKey ? ' -H "authorization: Bearer $RADIXKV_API_KEY"' : '';
  return `curl -s ${url}/v1/chat/completions${key} -H 'content-type: application/json' -d '${JSON.stringify(body)}'`;
}

function firstSignal(): Promise<NodeJS.Signals> {
  return new Promise((settle) => {
    const onSignal = (signal: NodeJS.Signals) => {
      process.off('SIGINT', onSignal).off('SIGTERM', onSignal);
      settle(signal);
    };
    process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  });
}

function exitAtOnce(signal: NodeJS.Signals): never {
  endAtOnce(signal, 128 + constants.signals[signal]);
}

/**
 * By the signal, which leaves nobody time: `process.exit` joins the threads, and the engine's may abort in the middle of
 * a run. The first process of a container has no such signals, so that it ends with the code.
 */
function endAtOnce(signal: NodeJS.Signals, code: number): never {
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
  process.exit(code);
}
