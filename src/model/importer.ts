/** PLACEHOLDER for the importer; only its signature is final. */
import { RadixkvError } from '../errors.js';
import type { ImportModel } from './registry.js';

export const importModel: ImportModel = async () => {
  throw new RadixkvError('internal', 'the model import is not built yet');
};
