#!/usr/bin/env node
/**
 * The `radixkv` command. Exit codes: 0 done, 1 failed, 2 wrong usage. An error is one line; the stack only with
 * `RADIXKV_DEBUG=1`.
 */
import { CommanderError } from 'commander';
import { errnoOf, messageOf } from '../errno.js';
import { RadixkvError } from '../errors.js';
import { systemClock } from '../model/clock.js';
import { createProgram } from './program.js';
import { createTerminal } from './terminal.js';

// A reader that has seen enough (`| head`) is no error, and must not end a server.
process.stdout.on('error', (error) => {
  if (errnoOf(error) !== 'EPIPE') throw error;
});
const terminal = createTerminal(process.stdout, process.stderr, systemClock);
try {
  await createProgram(terminal).parseAsync();
  terminal.endProgress();
} catch (error) {
  process.exitCode = report(error);
}

function report(error: unknown): number {
  // Commander has printed its message already; help and version end with code 0.
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
  if (process.env.RADIXKV_DEBUG === '1') terminal.note(error instanceof Error ? error.stack! : String(error));
  if (error instanceof RadixkvError) {
    terminal.note(`radixkv: ${error.message}`);
    return error.code === 'invalid_value' ? 2 : 1;
  }
  terminal.note(`radixkv: unexpected error: ${messageOf(error)} (RADIXKV_DEBUG=1 shows where)`);
  return 1;
}
