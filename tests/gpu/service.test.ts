import { test } from 'node:test';
import { runGpuSuite } from '../support/gpu-suite.js';

test('the service with a GPU as its device tier, on a software GPU', () => runGpuSuite('service'));
