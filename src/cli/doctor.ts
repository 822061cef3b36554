/** `radixkv doctor`: runs the checks and shows them. */
import type { ServeOptions } from '../config/options.js';
import { type CheckResult, runChecks } from './checks.js';
import type { Terminal } from './terminal.js';

/** @returns Whether nothing failed; warnings don't count. */
export async function runDoctor(options: ServeOptions, json: boolean, terminal: Terminal): Promise<boolean> {
  const checks = await runChecks(options);
  const healthy = checks.every((check) => check.status !== 'fail');
  if (json) terminal.print(JSON.stringify({ healthy, checks }, null, 2));
  else for (const line of doctorLines(checks)) terminal.print(line);
  return healthy;
}

/** One line a check, and one below it with the fix. */
function doctorLines(checks: readonly CheckResult[]): string[] {
  const width = Math.max(...checks.map((check) => check.name.length));
  return checks.flatMap((check) => {
    const line = `${check.status.padEnd(4)}  ${check.name.padEnd(width)}  ${check.detail}`;
    return check.fix === undefined ? [line] : [line, `${' '.repeat(width + 8)}fix: ${check.fix}`];
  });
}
