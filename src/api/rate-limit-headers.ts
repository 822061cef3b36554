/** OpenAI's `x-ratelimit-*` headers. */
import type { Response } from 'express';
import { BUDGETED, type Budgeted, type BudgetReading } from '../tenants/budgets.js';

/** As OpenAI writes it: `120ms`, `1.5s`, `6m0s`. Rounded up. */
export function durationText(ms: number): string {
  const whole = Math.ceil(ms);
  if (whole < 1000) return `${whole}ms`;
  const minutes = Math.floor(whole / 60_000);
  const seconds = `${(whole % 60_000) / 1000}s`;
  return minutes === 0 ? seconds : `${minutes}m${seconds}`;
}

/** Three headers for each thing that is limited. Nothing once the response has begun. */
export function setRateLimitHeaders(
  res: Response,
  read: (what: Budgeted) => BudgetReading | undefined,
): void {
  if (res.headersSent) return;
  for (const what of BUDGETED) {
    const reading = read(what);
    if (reading === undefined) continue;
    res.setHeader(`x-ratelimit-limit-${what}`, String(reading.limit));
    res.setHeader(`x-ratelimit-remaining-${what}`, String(reading.remaining));
    res.setHeader(`x-ratelimit-reset-${what}`, durationText(reading.resetMs));
  }
}
