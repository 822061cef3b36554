/** Style the compiler can't check. */
import assert from 'node:assert/strict';
import { test } from 'node:test';

test('placeholder until the tidy rules land', () => assert.ok(true));
