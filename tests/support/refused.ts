/** Assertion on operating errors. */
import assert from 'node:assert/strict';
import { type ErrorCode, RadixkvError } from '../../src/errors.js';

/** `action` must reject with this code and a message that names the cause. */
export function assertRefused(code: ErrorCode, named: RegExp, action: () => Promise<unknown>): Promise<void> {
  return assert.rejects(action, (error) => {
    assert.ok(error instanceof RadixkvError, String(error));
    assert.equal(error.code, code);
    assert.match(error.message, named);
    return true;
  });
}
