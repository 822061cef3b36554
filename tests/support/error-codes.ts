/** Every code of the error table. */
import { ERRORS, type ErrorCode } from '../../src/errors.js';

export const ERROR_CODES: readonly ErrorCode[] = Object.keys(ERRORS).filter(
  (code): code is ErrorCode => code in ERRORS,
);
